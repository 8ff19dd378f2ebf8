//! Who is there and how they are: the one owner of a session's graph of nodes.
//!
//! A statement is a transaction on it: it [reserves](Catalog::reserve) a node, under a name that nobody else has and over
//! nodes that are there, does what takes long without the catalog's lock, and [commits](Catalog::commit). A reservation
//! that is dropped leaves nothing. What is read, also by a node that is only reserved, can't be dropped.

mod node;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use node::{Kind, News, Node, NodeId, State};

use crate::error::{Error, Result};

/// A node with what keeps it running.
pub(crate) struct Entry<B> {
    pub node: Arc<Node>,
    /// The statement that made it, for `SHOW CREATE`.
    pub text: String,
    /// `None` while it is only reserved.
    pub body: Option<B>,
}

struct Inner<B> {
    next: NodeId,
    entries: HashMap<NodeId, Entry<B>>,
    names: BTreeMap<String, NodeId>,
}

/// The graph of a session's nodes, each with a body of type `B`.
pub(crate) struct Catalog<B> {
    inner: Mutex<Inner<B>>,
    pub news: Arc<News>,
}

impl<B> Default for Catalog<B> {
    fn default() -> Self {
        let inner = Inner { next: 1, entries: HashMap::new(), names: BTreeMap::new() };
        Catalog { inner: Mutex::new(inner), news: Arc::default() }
    }
}

/// What is to be created.
pub(crate) struct New<'a> {
    pub kind: Kind,
    pub name: &'a str,
    /// The statement.
    pub text: &'a str,
    /// Whether something of its kind that has the name makes way for it, once it is there.
    pub replace: bool,
}

/// A node that is there but not yet to be seen. Dropped before it is committed, it was never there.
pub(crate) struct Reserved<B: Clone> {
    catalog: Arc<Catalog<B>>,
    pub node: Arc<Node>,
    committed: bool,
}

impl<B: Clone> Drop for Reserved<B> {
    fn drop(&mut self) {
        if !self.committed {
            self.catalog.remove(self.node.id);
        }
    }
}

fn same_kind(one: Kind, other: Kind) -> bool {
    one.word() == other.word()
}

impl<B> Inner<B> {
    fn named(&self, name: &str) -> Option<&Entry<B>> {
        self.names.get(name).and_then(|id| self.entries.get(id))
    }

    fn readers(&self, node: &Node) -> impl Iterator<Item = Arc<Node>> {
        node.readers().into_iter().filter(|reader| self.entries.contains_key(&reader.id))
    }

    /// Those whose life depends on it. A reader that is at its end holds nothing, but views are read on.
    fn holders(&self, node: &Node) -> impl Iterator<Item = Arc<Node>> {
        let holds = |reader: &Arc<Node>| {
            matches!(reader.kind, Kind::View | Kind::MaterializedView) || reader.state().is_living()
        };
        self.readers(node).filter(holds)
    }

    fn unread(&self, node: &Node) -> Result<()> {
        let mut readers: Vec<_> = self.holders(node).map(|reader| reader.title()).collect();
        if readers.is_empty() {
            return Ok(());
        }
        readers.sort();
        Err(Error::user(format!(
            "'{}' is still read by {}: drop what reads it first, or all of it with CASCADE",
            node.name,
            readers.join(", ")
        )))
    }

    fn take(&mut self, id: NodeId) -> Option<Entry<B>> {
        let entry = self.entries.remove(&id)?;
        if self.names.get(&entry.node.name) == Some(&id) {
            self.names.remove(&entry.node.name);
        }
        Some(entry)
    }
}

impl<B: Clone> Catalog<B> {
    fn lock(&self) -> MutexGuard<'_, Inner<B>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Errors: the name is taken, by another kind or by one that is not to be replaced, or what has it is read.
    pub fn check_name(&self, new: &New<'_>) -> Result<()> {
        check_name(&self.lock(), new)
    }

    /// Makes a node that reads the nodes `reads`. Errors as [`Catalog::check_name`]; what it reads is gone or has failed.
    pub fn reserve(self: &Arc<Self>, new: &New<'_>, reads: &[NodeId]) -> Result<Reserved<B>> {
        let mut inner = self.lock();
        check_name(&inner, new)?;
        let mut below = Vec::new();
        for id in reads {
            let entry = inner.entries.get(id).filter(|entry| entry.body.is_some());
            let entry = entry.ok_or_else(|| Error::user("what the query reads was dropped meanwhile: try again"))?;
            if new.replace && entry.node.name == new.name && same_kind(entry.node.kind, new.kind) {
                return Err(Error::user(format!(
                    "the new {} can't read the one that it replaces",
                    format_args!("{} '{}'", new.kind.word(), new.name)
                )));
            }
            // A table that has failed is read anew, and a plain view is but a name for its query.
            let reads_on = entry.node.kind != Kind::Table && new.kind != Kind::View;
            if let Some(failure) = entry.node.failure().filter(|_| reads_on) {
                return Err(failure);
            }
            below.push(entry.node.clone());
        }
        let id = inner.next;
        inner.next += 1;
        let node = Node::new(id, new.kind, new.name.to_owned(), below, self.news.clone());
        inner.entries.insert(id, Entry { node: node.clone(), text: new.text.to_owned(), body: None });
        if new.kind.is_named() && !inner.names.contains_key(new.name) {
            inner.names.insert(new.name.to_owned(), id);
        }
        Ok(Reserved { catalog: self.clone(), node, committed: false })
    }

    /// Makes a reserved node one to be seen, under its name; gives back what had the name, to be taken apart.
    ///
    /// Errors: what had the name has come to be read meanwhile; the node is then dropped.
    pub fn commit(&self, mut reserved: Reserved<B>, body: B) -> Result<Option<Entry<B>>> {
        let mut inner = self.lock();
        let node = reserved.node.clone();
        let holder = inner.names.get(&node.name).copied().filter(|id| *id != node.id && node.kind.is_named());
        let mut old = None;
        if let Some(holder) = holder {
            if let Some(entry) = inner.entries.get(&holder)
                && let Err(read) = inner.unread(&entry.node.clone())
            {
                drop(inner);
                drop(reserved);
                return Err(read);
            }
            old = inner.take(holder);
        }
        if node.kind.is_named() {
            inner.names.insert(node.name.clone(), node.id);
        }
        if let Some(entry) = inner.entries.get_mut(&node.id) {
            entry.body = Some(body);
        }
        reserved.committed = true;
        drop(inner);
        self.news.tell();
        Ok(old)
    }

    /// Replaces the body of a node that is there.
    pub fn exchange(&self, id: NodeId, body: B) {
        if let Some(entry) = self.lock().entries.get_mut(&id) {
            entry.body = Some(body);
        }
    }

    /// Whether a statement is about to make something called `name`.
    pub fn is_being_made(&self, name: &str) -> bool {
        self.lock().named(name).is_some_and(|entry| entry.body.is_none())
    }

    /// Whether what is called `name` is read, and only by what goes by itself: answers that are being computed, and readers
    /// of nothing but what has come to its end.
    pub fn is_soon_unread(&self, name: &str) -> bool {
        let inner = self.lock();
        let Some(entry) = inner.named(name) else { return false };
        let goes = |reader: &Arc<Node>| {
            let view = matches!(reader.kind, Kind::View | Kind::MaterializedView);
            let at_end = || reader.reads.iter().all(|below| !below.state().is_living());
            reader.kind == Kind::Answer || (!view && at_end())
        };
        let holders: Vec<_> = inner.holders(&entry.node).collect();
        !holders.is_empty() && holders.iter().all(goes)
    }

    /// The node called `name` with its body, if it is there.
    pub fn find(&self, name: &str) -> Option<(Arc<Node>, B)> {
        let inner = self.lock();
        let entry = inner.named(name)?;
        entry.body.clone().map(|body| (entry.node.clone(), body))
    }

    /// The body of a node.
    pub fn body(&self, id: NodeId) -> Option<B> {
        self.lock().entries.get(&id).and_then(|entry| entry.body.clone())
    }

    /// The statement that made `name`.
    pub fn text(&self, name: &str) -> Option<String> {
        self.lock().named(name).map(|entry| entry.text.clone())
    }

    /// The nodes that have names, by name.
    pub fn named(&self) -> Vec<(Arc<Node>, B)> {
        let inner = self.lock();
        let entries = inner.names.values().filter_map(|id| inner.entries.get(id));
        entries.filter_map(|entry| entry.body.clone().map(|body| (entry.node.clone(), body))).collect()
    }

    /// All nodes, in the order in which they were made.
    pub fn all(&self) -> Vec<(Arc<Node>, B)> {
        let inner = self.lock();
        let mut entries: Vec<_> = inner.entries.values().collect();
        entries.sort_unstable_by_key(|entry| entry.node.id);
        entries.iter().filter_map(|entry| entry.body.clone().map(|body| (entry.node.clone(), body))).collect()
    }

    /// Whether something reads it.
    pub fn is_read(&self, node: &Node) -> bool {
        self.lock().holders(node).next().is_some()
    }

    /// Removes a node whatever reads it: for one that nobody can read, and at its own end.
    pub fn remove(&self, id: NodeId) -> Option<Entry<B>> {
        let removed = self.lock().take(id);
        self.news.tell();
        removed
    }

    /// Drops what is called `name`, and with `cascade` all that reads it: gives them back to be taken apart, readers
    /// before what they read. Errors: it is read, without `cascade`. `None`: there is no such thing.
    pub fn remove_named(&self, kind: Kind, name: &str, cascade: bool) -> Result<Option<Vec<Entry<B>>>> {
        let mut inner = self.lock();
        let found = inner.named(name).filter(|entry| same_kind(entry.node.kind, kind));
        let Some(node) = found.filter(|entry| entry.body.is_some()).map(|entry| entry.node.clone()) else {
            return Ok(None);
        };
        if !cascade {
            inner.unread(&node)?;
        }
        let mut all = vec![node];
        let mut at = 0;
        while cascade && at < all.len() {
            for reader in inner.readers(&all[at].clone()).collect::<Vec<_>>() {
                if all.iter().all(|known| known.id != reader.id) {
                    all.push(reader);
                }
            }
            at += 1;
        }
        // Who reads was made after what it reads.
        all.sort_by_key(|node| std::cmp::Reverse(node.id));
        let dropped = all.iter().filter_map(|node| inner.take(node.id)).collect();
        drop(inner);
        self.news.tell();
        Ok(Some(dropped))
    }
}

fn check_name<B>(inner: &Inner<B>, new: &New<'_>) -> Result<()> {
    let Some(entry) = inner.named(new.name).filter(|_| new.kind.is_named()) else { return Ok(()) };
    let (name, there, wanted) = (new.name, entry.node.kind.word(), new.kind.word());
    if entry.body.is_none() {
        return Err(Error::user(format!("a {there} '{name}' is being created by another statement: try again")));
    }
    match (new.replace, same_kind(entry.node.kind, new.kind)) {
        (false, _) => Err(Error::user(format!(
            "there is already a {there} '{name}': choose another name, drop it, or write IF NOT EXISTS"
        ))),
        (true, false) => Err(Error::user(format!(
            "'{name}' is a {there}, not a {wanted} to replace: choose another name, or drop it first"
        ))),
        (true, true) => inner.unread(&entry.node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(catalog: &Arc<Catalog<u8>>, kind: Kind, name: &str, reads: &[NodeId]) -> Result<NodeId> {
        let reserved = catalog.reserve(&New { kind, name, text: "", replace: false }, reads)?;
        let id = reserved.node.id;
        catalog.commit(reserved, 0).map(|_| id)
    }

    #[test]
    fn a_reservation_holds_its_name_and_what_it_reads_and_leaves_nothing() -> Result<()> {
        let catalog: Arc<Catalog<u8>> = Arc::default();
        let table = add(&catalog, Kind::Table, "t", &[])?;
        let new = New { kind: Kind::MaterializedView, name: "v", text: "", replace: false };
        let reserved = catalog.reserve(&new, &[table])?;
        assert!(catalog.reserve(&new, &[table]).is_err());
        assert!(catalog.find("v").is_none());
        assert!(catalog.remove_named(Kind::Table, "t", false).is_err());
        drop(reserved);
        catalog.check_name(&new)?;
        assert!(catalog.remove_named(Kind::Table, "t", false)?.is_some());
        assert!(catalog.all().is_empty());
        Ok(())
    }

    #[test]
    fn what_is_read_is_dropped_only_with_its_readers() -> Result<()> {
        let catalog: Arc<Catalog<u8>> = Arc::default();
        let table = add(&catalog, Kind::Table, "t", &[])?;
        let view = add(&catalog, Kind::MaterializedView, "v", &[table])?;
        add(&catalog, Kind::MaterializedView, "w", &[view, table])?;
        add(&catalog, Kind::Subscription, "query", &[view])?;
        let refused = catalog.remove_named(Kind::View, "v", false).err().map(|error| error.to_string());
        assert!(refused.is_some_and(|text| text.contains("subscription 'query', view 'w'")));
        assert!(catalog.remove_named(Kind::View, "t", true)?.is_none());
        let dropped = catalog.remove_named(Kind::Table, "t", true)?.unwrap_or_default();
        let names: Vec<_> = dropped.iter().map(|entry| entry.node.name.as_str()).collect();
        assert_eq!(names, ["query", "w", "v", "t"]);
        assert!(catalog.all().is_empty());
        Ok(())
    }

    #[test]
    fn a_replacement_takes_the_name_once_it_is_there() -> Result<()> {
        let catalog: Arc<Catalog<u8>> = Arc::default();
        add(&catalog, Kind::Sink, "s", &[])?;
        let new = New { kind: Kind::Sink, name: "s", text: "new", replace: true };
        drop(catalog.reserve(&new, &[])?);
        assert_eq!(catalog.text("s").as_deref(), Some(""));
        let reserved = catalog.reserve(&new, &[])?;
        assert_eq!(catalog.text("s").as_deref(), Some(""));
        assert!(catalog.commit(reserved, 1)?.is_some());
        assert_eq!((catalog.text("s").as_deref(), catalog.named().len()), (Some("new"), 1));
        assert!(catalog.check_name(&New { kind: Kind::Table, ..new }).is_err());
        Ok(())
    }
}
