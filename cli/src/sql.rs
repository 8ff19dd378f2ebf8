//! `headwater sql`: a prompt, or a text of statements.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use crate::args::Sql;
use crate::failure::Failure;
use crate::look::Look;
use crate::shell::Shell;
use crate::{prompt, script};

/// Runs `headwater sql`; answers go to `out`.
pub fn sql(args: &Sql, out: &mut dyn Write) -> Result<(), Failure> {
    if args.command.is_none() && io::stdin().is_terminal() {
        return prompt::converse(&args.common, out);
    }
    let (source, text) = match &args.command {
        Some(text) => (String::new(), text.clone()),
        None => script::read(Path::new("-"))?,
    };
    let session = args.common.session().build().map_err(Failure::of(""))?;
    let look = Look::whole(args.common.format);
    Shell::new(session, look).once(&source, &text, out)
}
