//! Who is there and how they are: the one owner of a session's graph of nodes.
//!
//! A statement is a transaction on it: it [claims](Catalog::claim) a name for a node, [binds](Catalog::bind) the node to
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
    pub existing: Existing,
}

/// What is to become of something that has the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It is an error.
    Refuse,
    /// It stays, and nothing is created.
    Keep,
    /// If it is of the same kind it makes way, once the new one is there.
    Replace,
}

/// What became of a claim to a name.
pub(crate) enum Claim<B: Clone> {
    Mine(Reserved<B>),
    /// Something has it and is to be kept.
    Kept,
    /// Another statement is about to give it to something.
    Busy,
}

/// Why something was not done.
#[derive(Debug)]
pub(crate) struct Refused {
    pub error: Error,
    /// Whether it is for others only that read what it is about and go by themselves: answers that are being computed,
    /// readers of nothing but what has come to its end, and what a statement is still making, which may yet fail.
    pub passes: bool,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused { error, passes: false }
    }
}

/// A node that is there but not yet to be seen. Dropped before it is committed, it was never there.
pub(crate) struct Reserved<B: Clone> {
    catalog: Arc<Catalog<B>>,
    pub node: Arc<Node>,
    pub replaces: bool,
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

    fn unread(&self, node: &Node) -> Result<(), Refused> {
        let holders: Vec<_> = self.holders(node).collect();
        if holders.is_empty() {
            return Ok(());
        }
        let goes = |reader: &Arc<Node>| {
            let view = matches!(reader.kind, Kind::View | Kind::MaterializedView);
            let made = self.entries.get(&reader.id).is_some_and(|entry| entry.body.is_some());
            reader.kind == Kind::Answer || !made || (!view && reader.comes_to_its_end())
        };
        let mut readers: Vec<_> = holders.iter().map(|reader| reader.title()).collect();
        readers.sort();
        let error = Error::user(format!(
            "'{}' is still read by {}: drop what reads it first, or all of it with CASCADE",
            node.name,
            readers.join(", ")
        ));
        Err(Refused { error, passes: holders.iter().all(goes) })
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

    /// Makes a node under a name of its own, to be bound to what it reads and committed.
    ///
    /// Errors: the name is taken, by something of another kind or that is not to be replaced, or what has it is read.
    pub fn claim(self: &Arc<Self>, new: &New<'_>) -> Result<Claim<B>, Refused> {
        let mut inner = self.lock();
        if let Some(entry) = inner.named(new.name) {
            match new.existing {
                _ if entry.body.is_none() => return Ok(Claim::Busy),
                Existing::Keep => return Ok(Claim::Kept),
                Existing::Refuse | Existing::Replace => check_name(&inner, new, entry)?,
            }
        }
        Ok(Claim::Mine(self.enter(&mut inner, new.kind, new.name, new.text, new.existing == Existing::Replace)))
    }

    /// Makes a node whose name is for messages, to be bound to what it reads and committed.
    pub fn reserve(self: &Arc<Self>, kind: Kind, name: &str) -> Reserved<B> {
        self.enter(&mut self.lock(), kind, name, "", false)
    }

    fn enter(
        self: &Arc<Self>,
        inner: &mut Inner<B>,
        kind: Kind,
        name: &str,
        text: &str,
        replaces: bool,
    ) -> Reserved<B> {
        let id = inner.next;
        inner.next += 1;
        let node = Node::new(id, kind, name.to_owned(), self.news.clone());
        inner.entries.insert(id, Entry { node: node.clone(), text: text.to_owned(), body: None });
        if kind.is_named() && !inner.names.contains_key(name) {
            inner.names.insert(name.to_owned(), id);
        }
        Reserved { catalog: self.clone(), node, replaces, committed: false }
    }

    /// Has a reserved node read these nodes, known by name and id. Errors: one is gone, is the one that it replaces, or has
    /// failed.
    pub fn bind(&self, reserved: &Reserved<B>, reads: &[(&str, NodeId)]) -> Result<()> {
        let inner = self.lock();
        let node = &reserved.node;
        let mut below: Vec<Arc<Node>> = Vec::new();
        for (name, id) in reads {
            let entry = inner.entries.get(id).filter(|entry| entry.body.is_some());
            let read = &entry.ok_or_else(|| was_replaced(name))?.node;
            if reserved.replaces && read.name == node.name && same_kind(read.kind, node.kind) {
                return Err(Error::user(format!("the new {} can't read the one that it replaces", node.title())));
            }
            // A table that has failed is read anew, and a plain view is but a name for its query.
            let reads_on = read.kind != Kind::Table && node.kind != Kind::View;
            if let Some(failure) = read.failure().filter(|_| reads_on) {
                return Err(failure);
            }
            if below.iter().all(|known| known.id != *id) {
                below.push(read.clone());
            }
        }
        node.read(below);
        Ok(())
    }

    /// Makes a reserved node one to be seen, under its name; gives back what had the name, to be taken apart.
    ///
    /// Errors: what had the name has come to be read meanwhile, or the node was dropped with what it reads.
    pub fn commit(&self, reserved: &mut Reserved<B>, body: B) -> Result<Option<Entry<B>>, Refused> {
        let mut inner = self.lock();
        let node = reserved.node.clone();
        if !inner.entries.contains_key(&node.id) {
            return Err(Error::user(format!("what the {} reads was dropped meanwhile", node.title())).into());
        }
        let holder = inner.names.get(&node.name).copied().filter(|id| *id != node.id && node.kind.is_named());
        let mut old = None;
        if let Some(holder) = holder {
            if let Some(entry) = inner.entries.get(&holder) {
                inner.unread(&entry.node)?;
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
    pub fn remove_named(&self, kind: Kind, name: &str, cascade: bool) -> Result<Option<Vec<Entry<B>>>, Refused> {
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

/// That something a query was built over is no longer there.
pub(crate) fn was_replaced(name: &str) -> Error {
    Error::user(format!("'{name}' was dropped or replaced since the query was built: build the query again"))
}

/// Whether what has a name can make way. Errors: it can't, and why.
fn check_name<B>(inner: &Inner<B>, new: &New<'_>, has: &Entry<B>) -> Result<(), Refused> {
    let (name, there, wanted) = (new.name, has.node.kind.word(), new.kind.word());
    match (new.existing == Existing::Replace, same_kind(has.node.kind, new.kind)) {
        (false, _) => Err(Error::user(format!(
            "there is already a {there} '{name}': choose another name, drop it, or write IF NOT EXISTS"
        ))
        .into()),
        (true, false) => Err(Error::user(format!(
            "'{name}' is a {there}, not a {wanted} to replace: choose another name, or drop it first"
        ))
        .into()),
        (true, true) => inner.unread(&has.node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: New<'_> = New { kind: Kind::Table, name: "", text: "", existing: Existing::Refuse };

    type Result<T> = std::result::Result<T, Refused>;

    fn claim(catalog: &Arc<Catalog<u8>>, new: &New<'_>) -> Result<Reserved<u8>> {
        match catalog.claim(new)? {
            Claim::Mine(reserved) => Ok(reserved),
            Claim::Kept => Err(Error::user("kept").into()),
            Claim::Busy => Err(Error::user("busy").into()),
        }
    }

    fn add(catalog: &Arc<Catalog<u8>>, kind: Kind, name: &str, reads: &[NodeId]) -> Result<NodeId> {
        let mut reserved = match kind.is_named() {
            true => claim(catalog, &New { kind, name, ..NEW })?,
            false => catalog.reserve(kind, name),
        };
        catalog.bind(&reserved, &reads.iter().map(|id| ("it", *id)).collect::<Vec<_>>())?;
        let id = reserved.node.id;
        catalog.commit(&mut reserved, 0).map(|_| id)
    }

    #[test]
    fn a_reservation_holds_its_name_and_what_it_reads_and_leaves_nothing() -> Result<()> {
        let catalog: Arc<Catalog<u8>> = Arc::default();
        let table = add(&catalog, Kind::Table, "t", &[])?;
        let new = New { kind: Kind::MaterializedView, name: "v", ..NEW };
        let reserved = claim(&catalog, &new)?;
        catalog.bind(&reserved, &[("t", table)])?;
        assert!(matches!(catalog.claim(&new)?, Claim::Busy));
        assert!(catalog.find("v").is_none());
        assert!(catalog.remove_named(Kind::Table, "t", false).is_err());
        drop(reserved);
        drop(claim(&catalog, &new)?);
        assert!(matches!(catalog.claim(&New { name: "t", existing: Existing::Keep, ..NEW })?, Claim::Kept));
        assert!(catalog.remove_named(Kind::Table, "t", false)?.is_some());
        assert!(catalog.all().is_empty());
        Ok(())
    }

    #[test]
    fn what_is_dropped_while_it_is_made_does_not_come() -> Result<()> {
        let catalog: Arc<Catalog<u8>> = Arc::default();
        let table = add(&catalog, Kind::Table, "t", &[])?;
        let mut reserved = claim(&catalog, &New { kind: Kind::MaterializedView, name: "v", ..NEW })?;
        catalog.bind(&reserved, &[("t", table)])?;
        assert!(catalog.remove_named(Kind::Table, "t", true)?.is_some());
        assert!(catalog.commit(&mut reserved, 0).is_err());
        drop(reserved);
        assert!(catalog.find("v").is_none() && catalog.named().is_empty() && !catalog.is_being_made("v"));
        let again = claim(&catalog, &New { kind: Kind::MaterializedView, name: "v", ..NEW })?;
        assert!(
            catalog.bind(&again, &[("t", table)]).is_err_and(|error| error.to_string().contains("'t' was dropped"))
        );
        Ok(())
    }

    #[test]
    fn what_is_read_is_dropped_only_with_its_readers() -> Result<()> {
        let catalog: Arc<Catalog<u8>> = Arc::default();
        let table = add(&catalog, Kind::Table, "t", &[])?;
        let view = add(&catalog, Kind::MaterializedView, "v", &[table])?;
        add(&catalog, Kind::MaterializedView, "w", &[view, table])?;
        add(&catalog, Kind::Subscription, "query", &[view])?;
        let refused = catalog.remove_named(Kind::View, "v", false).err().map(|refused| refused.error.to_string());
        assert!(refused.is_some_and(|text| text.contains("subscription 'query', view 'w'")));
        assert!(catalog.remove_named(Kind::View, "t", true)?.is_none());
        let dropped = catalog.remove_named(Kind::Table, "t", true)?.unwrap_or_default();
        let names: Vec<_> = dropped.iter().map(|entry| entry.node.name.as_str()).collect();
        assert_eq!(names, ["query", "w", "v", "t"]);
        assert!(catalog.all().is_empty());
        Ok(())
    }

    #[test]
    fn a_refusal_passes_where_all_readers_go_by_themselves() -> Result<()> {
        let catalog: Arc<Catalog<u8>> = Arc::default();
        let table = add(&catalog, Kind::Table, "t", &[])?;
        let view = add(&catalog, Kind::MaterializedView, "v", &[table])?;
        let plain = add(&catalog, Kind::View, "p", &[view])?;
        let reader = add(&catalog, Kind::Subscription, "query", &[plain])?;
        let passes = || catalog.remove_named(Kind::View, "p", false).err().map(|refused| refused.passes);
        let answer = catalog.reserve(Kind::Answer, "");
        catalog.bind(&answer, &[("p", plain)])?;
        assert_eq!(passes(), Some(false));
        // The view below has not yet worked through what it has; nothing more comes.
        let (node, _) = catalog.find("t").unwrap();
        node.finished();
        assert_eq!(passes(), Some(true));
        add(&catalog, Kind::MaterializedView, "w", &[plain])?;
        assert_eq!(passes(), Some(false));
        catalog.remove_named(Kind::View, "w", false)?;
        catalog.remove(reader);
        assert_eq!(passes(), Some(true));
        drop(answer);
        assert_eq!(passes(), None);
        Ok(())
    }

    #[test]
    fn a_replacement_takes_the_name_once_it_is_there() -> Result<()> {
        let catalog: Arc<Catalog<u8>> = Arc::default();
        add(&catalog, Kind::Sink, "s", &[])?;
        let new = New { kind: Kind::Sink, name: "s", text: "new", existing: Existing::Replace };
        drop(claim(&catalog, &new)?);
        assert_eq!(catalog.text("s").as_deref(), Some(""));
        let mut reserved = claim(&catalog, &new)?;
        assert_eq!(catalog.text("s").as_deref(), Some(""));
        assert!(catalog.commit(&mut reserved, 1)?.is_some());
        assert_eq!((catalog.text("s").as_deref(), catalog.named().len()), (Some("new"), 1));
        assert!(catalog.claim(&New { kind: Kind::Table, ..new }).is_err());
        Ok(())
    }
}
