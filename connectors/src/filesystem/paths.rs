//! Which files a path means: one file, those in a folder, or those that a pattern fits.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::filesystem::content::Identity;
use crate::format::kind::{Format, is_tsv};

/// What the option `path` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    File(PathBuf),
    Folder(PathBuf),
    Pattern(String),
}

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) modified: SystemTime,
    pub(crate) identity: Option<Identity>,
}

impl Found {
    /// The name of the file's split.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// The path of an option, without the scheme of local files.
pub(crate) fn local(path: &str) -> Result<&str> {
    if let Some(rest) = path.strip_prefix("file://") {
        return Ok(rest);
    }
    match path.split_once("://") {
        Some((scheme, _)) => Err(Error::User(format!(
            "path '{path}': there is no support for '{scheme}://' yet; connector 'filesystem' reads local files"
        ))),
        None => Ok(path),
    }
}

impl Place {
    /// What `path` means now. A path that is neither there nor a pattern is an error.
    pub(crate) fn of(path: &str) -> Result<Place> {
        let path = local(path)?;
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Ok(Place::Folder(PathBuf::from(path))),
            Ok(metadata) if metadata.is_file() => Ok(Place::File(PathBuf::from(path))),
            Ok(_) => Err(Error::User(format!(
                "'{path}' is a pipe or a device, and files are read more than once: write it to a file, or pipe it to \
                 standard input and use connector = 'stdin'"
            ))),
            Err(_) if path.contains(['*', '?', '[']) => {
                glob::Pattern::new(path)
                    .map_err(|error| Error::User(format!("path '{path}' is not a pattern: {}", error.msg)))?;
                Ok(Place::Pattern(path.to_string()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::User(format!("there is no file or folder '{path}'{}", whereabouts(Path::new(path)))))
            }
            Err(error) => Err(Error::io("read", path, &error)),
        }
    }

    /// The path as written.
    pub(crate) fn text(&self) -> String {
        match self {
            Place::File(path) | Place::Folder(path) => path.display().to_string(),
            Place::Pattern(pattern) => pattern.clone(),
        }
    }

    /// The one folder in which all the files are, if there is one: whoever makes, renames or removes a file in it changes its
    /// time of modification.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        match self {
            // One look at the file costs no more.
            Place::File(_) => None,
            Place::Folder(folder) => Some(folder.clone()),
            Place::Pattern(pattern) => {
                let parent = Path::new(pattern).parent()?;
                let plain = !parent.as_os_str().to_str()?.contains(['*', '?', '[']);
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                plain.then(|| parent.to_path_buf())
            }
        }
    }

    /// The format that the names tell; an error if they tell none or several.
    pub(crate) fn format(&self) -> Result<Format> {
        let ask = |why: String| Error::User(format!("{why}; say which by format = 'csv', 'json' or 'parquet'"));
        let named = match self {
            Place::File(path) => {
                let unknown = || ask(format!("the name of {} does not tell its format", path.display()));
                return Format::of(path).ok_or_else(unknown);
            }
            Place::Pattern(pattern) => Format::of(Path::new(pattern)),
            Place::Folder(_) => None,
        };
        if let Some(format) = named {
            return Ok(format);
        }
        let mut formats: Vec<Format> = self.everything()?.iter().filter_map(|found| Format::of(&found.path)).collect();
        formats.sort_unstable();
        formats.dedup();
        match formats[..] {
            [format] => Ok(format),
            [] => Err(ask(format!("no file of {} tells a format by its name", self.text()))),
            _ => {
                let names: Vec<_> = formats.iter().map(|format| format.name()).collect();
                Err(ask(format!("there are files of several formats in {}: {}", self.text(), names.join(", "))))
            }
        }
    }

    /// Whether all names say that tabs separate fields.
    pub(crate) fn is_tsv(&self) -> bool {
        match self {
            Place::File(path) => is_tsv(path),
            Place::Pattern(pattern) => is_tsv(Path::new(pattern)),
            Place::Folder(_) => {
                self.everything().is_ok_and(|all| !all.is_empty() && all.iter().all(|found| is_tsv(&found.path)))
            }
        }
    }

    /// The files of a format that are there now, by name. In a folder those whose names say the format; hidden files and
    /// those that begin with `_` are left out.
    pub(crate) fn list(&self, format: Format) -> Result<Vec<Found>> {
        let mut all = self.everything()?;
        if let Place::Folder(_) = self {
            all.retain(|found| Format::of(&found.path) == Some(format));
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    fn everything(&self) -> Result<Vec<Found>> {
        let mut all = Vec::new();
        match self {
            Place::File(path) => all.extend(found(path)?),
            Place::Folder(folder) => {
                let entries = std::fs::read_dir(folder).map_err(|error| Error::io("list", folder.display(), &error))?;
                for entry in entries {
                    let entry = entry.map_err(|error| Error::io("list", folder.display(), &error))?;
                    if !is_hidden(&entry.path()) {
                        all.extend(found(&entry.path())?);
                    }
                }
            }
            Place::Pattern(pattern) => {
                let paths = glob::glob(pattern)
                    .map_err(|error| Error::User(format!("path '{pattern}' is not a pattern: {}", error.msg)))?;
                for path in paths {
                    let path = path.map_err(|error| Error::io("list", error.path().display(), error.error()))?;
                    if !is_hidden(&path) {
                        all.extend(found(&path)?);
                    }
                }
            }
        }
        Ok(all)
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(['.', '_']))
}

/// The file at a path; `None` if it is something else or has just gone.
pub(crate) fn found(path: &Path) -> Result<Option<Found>> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path.display(), &error)),
    };
    if !metadata.is_file() {
        return Ok(None);
    }
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let identity = Identity::of(&metadata);
    Ok(Some(Found { path: path.to_path_buf(), bytes: metadata.len(), modified, identity }))
}

/// A hint for a path that is not there: a neighbour of nearly the same name, or the folder that is missing.
fn whereabouts(path: &Path) -> String {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let Ok(entries) = std::fs::read_dir(parent) else {
        return format!(" (nor a folder '{}')", parent.display());
    };
    let names: Vec<String> =
        entries.flatten().take(1000).filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let wanted = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match crate::options::nearest(wanted, names.iter().map(String::as_str)) {
        Some(near) => format!("; did you mean '{}'?", path.with_file_name(near).display()),
        None if path.is_absolute() => String::new(),
        None => match std::env::current_dir() {
            Ok(here) => format!(" (the current folder is {})", here.display()),
            Err(_) => String::new(),
        },
    }
}
