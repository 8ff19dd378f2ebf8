//! Names.

use datafusion::sql::sqlparser::ast;

/// A name as it is meant: lower case unless quoted.
pub(super) fn name(ident: ast::Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value,
        None => ident.value.to_lowercase(),
    }
}
