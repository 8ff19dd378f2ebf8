//! What the files of a followed table are called as splits.
//!
//! A file's split has its path for a name, and keeps it when the file is renamed. Another file under that path, or other
//! content, is another split: `log.csv#2`. Who reads the table again must call every file as it was called at first, so the
//! names outlive the reader that gave them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::filesystem::content::Identity;

/// The names given in one table.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// How many files had a path.
    generations: HashMap<String, u32>,
    given: HashMap<Identity, String>,
}

impl Names {
    /// A new name for what is at `path` now.
    pub(crate) fn give(&mut self, path: String, identity: Option<Identity>) -> String {
        let generation = self.generations.entry(path.clone()).or_insert(0);
        *generation += 1;
        let name = generation_name(path, *generation);
        self.given.extend(identity.map(|identity| (identity, name.clone())));
        name
    }

    /// The name of what is at `path`, for a reader who follows: the one that it has from a reader before, or a new one.
    pub(crate) fn keep(&mut self, path: String, identity: Option<Identity>) -> String {
        match identity.and_then(|identity| self.given.get(&identity)) {
            Some(name) => name.clone(),
            None => self.give(path, identity),
        }
    }

    /// The name of what is at `path`, for one who reads again. What was not read before has one that was never given.
    pub(crate) fn of(&self, path: String, identity: Option<Identity>) -> String {
        let Some(identity) = identity else { return path };
        match self.given.get(&identity) {
            Some(name) => name.clone(),
            None => {
                let next = self.generations.get(&path).map_or(1, |generation| generation + 1);
                generation_name(path, next)
            }
        }
    }

    /// A named file goes on as another one, such as its compressed self.
    pub(crate) fn hand_on(&mut self, from: Option<Identity>, to: Option<Identity>) {
        if let (Some(from), Some(to)) = (from, to)
            && let Some(name) = self.given.remove(&from)
        {
            self.given.insert(to, name);
        }
    }

    /// A file is gone; another one may have its identity some day.
    pub(crate) fn forget(&mut self, identity: Option<Identity>) {
        if let Some(identity) = identity {
            self.given.remove(&identity);
        }
    }
}

fn generation_name(path: String, generation: u32) -> String {
    match generation {
        1 => path,
        _ => format!("{path}#{generation}"),
    }
}

/// The names of a table, for several readers.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedNames(Arc<Mutex<Names>>);

impl SharedNames {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names of all tables of a connector, by the table's name and path.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllNames(Arc<Mutex<HashMap<(String, String), SharedNames>>>);

impl AllNames {
    /// The names of one table.
    pub(crate) fn of(&self, table: &str, path: &str) -> SharedNames {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry((table.to_string(), path.to_string())).or_default().clone()
    }
}
