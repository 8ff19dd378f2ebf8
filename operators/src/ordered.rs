//! Ordered multisets of byte strings, one for each group, in one B-tree.

use std::cmp::Ordering;

use crate::arena::{Arena, NOWHERE};
use crate::saved::Place;
use crate::varint;

/// Entries or children a node has at most.
const WIDTH: usize = 64;
/// The longest value that an entry holds itself.
const INLINE: usize = 8;

/// For each group the byte strings it has, in their order, each with its number of copies.
///
/// What a minimum or a top-k keeps when records may be retracted. All groups share a B-tree whose entries are 24 bytes
/// (about 35 with its slack); a value longer than 8 bytes is stored once more beside it. Nothing is allocated for
/// each value. A value whose copies are negative is kept, but the queries pass over it.
///
/// ```
/// use headwater_operators::ordered::Ordered;
/// let mut values = Ordered::default();
/// values.add(7, b"pear", 1);
/// values.add(7, b"apple", 2);
/// assert_eq!(values.first(7), Some((&b"apple"[..], 2)));
/// values.add(7, b"apple", -2);
/// assert_eq!(values.first(7), Some((&b"pear"[..], 1)));
/// assert_eq!(values.first(8), None);
/// ```
#[derive(Default)]
pub struct Ordered {
    nodes: Vec<Node>,
    vacant: Vec<u32>,
    /// The topmost node, if there is any value.
    root: Option<u32>,
    arena: Arena,
    len: usize,
    /// The nodes and places on the way to the leaf being changed, while it is.
    path: Vec<(u32, usize)>,
}

/// A leaf, or a node with children: then its entries are copies of the children's first ones, whose counts mean nothing.
#[derive(Default)]
struct Node {
    entries: Vec<Entry>,
    children: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Entry {
    /// The value's first bytes, padded with zeros.
    prefix: [u8; INLINE],
    group: u32,
    /// Where the value is, or, for one that `prefix` holds, `NOWHERE` less its length.
    place: u32,
    count: i64,
}

/// What is searched for.
#[derive(Clone, Copy)]
struct Probe<'a> {
    fixed: u128,
    value: &'a [u8],
}

impl<'a> Probe<'a> {
    fn new(group: u32, value: &'a [u8]) -> Self {
        Probe { fixed: fixed(group, prefix(value)), value }
    }
}

/// A group and prefix as one integer that orders most values.
#[inline]
fn fixed(group: u32, prefix: [u8; INLINE]) -> u128 {
    (u128::from(group) << 64) | u128::from(u64::from_be_bytes(prefix))
}

fn prefix(value: &[u8]) -> [u8; INLINE] {
    let mut prefix = [0; INLINE];
    let length = value.len().min(INLINE);
    prefix[..length].copy_from_slice(&value[..length]);
    prefix
}

fn bytes<'a>(arena: &'a Arena, entry: &'a Entry) -> &'a [u8] {
    let length = (NOWHERE - entry.place) as usize;
    if length <= INLINE { &entry.prefix[..length] } else { arena.get(entry.place) }
}

/// The place of the first entry that is not before `probe`; with `from` greater, of the first after it.
///
/// The search over the integers has no branches to mispredict; bytes are compared only where the integers are equal.
#[inline]
fn position(arena: &Arena, entries: &[Entry], probe: &Probe, from: Ordering) -> usize {
    let start = entries.partition_point(|entry| fixed(entry.group, entry.prefix) < probe.fixed);
    let rest = &entries[start..];
    let is_equal = |entry: &Entry| fixed(entry.group, entry.prefix) == probe.fixed;
    if !rest.first().is_some_and(is_equal) {
        return start;
    }
    let equal = &rest[..rest.partition_point(is_equal)];
    start + equal.partition_point(|entry| bytes(arena, entry).cmp(probe.value) < from)
}

impl Ordered {
    /// The number of different values of all groups.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no group has a value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a group has a value, also one with negative copies.
    pub fn has(&self, group: u32) -> bool {
        self.seek(&Probe::new(group, b""), Ordering::Equal).is_some_and(|entry| entry.group == group)
    }

    /// A group's first value and its copies.
    pub fn first(&self, group: u32) -> Option<(&[u8], i64)> {
        self.forward(group, b"", Ordering::Equal)
    }

    /// A group's last value and its copies.
    pub fn last(&self, group: u32) -> Option<(&[u8], i64)> {
        self.backward(group, Probe::new(group + 1, b""))
    }

    /// The first of a group's values after `value`, and its copies.
    pub fn after(&self, group: u32, value: &[u8]) -> Option<(&[u8], i64)> {
        self.forward(group, value, Ordering::Greater)
    }

    /// The last of a group's values before `value`, and its copies.
    pub fn before(&self, group: u32, value: &[u8]) -> Option<(&[u8], i64)> {
        self.backward(group, Probe::new(group, value))
    }

    /// The copies of a value, negative ones too.
    pub fn count(&self, group: u32, value: &[u8]) -> i64 {
        let probe = Probe::new(group, value);
        self.seek(&probe, Ordering::Equal)
            .filter(|entry| entry.group == group && bytes(&self.arena, entry) == value)
            .map_or(0, |entry| entry.count)
    }

    fn forward(&self, group: u32, value: &[u8], from: Ordering) -> Option<(&[u8], i64)> {
        let mut entry = self.seek(&Probe::new(group, value), from)?;
        while entry.group == group && entry.count <= 0 {
            entry = self.seek(&Probe::new(group, bytes(&self.arena, entry)), Ordering::Greater)?;
        }
        (entry.group == group).then(|| (bytes(&self.arena, entry), entry.count))
    }

    fn backward(&self, group: u32, probe: Probe) -> Option<(&[u8], i64)> {
        let mut entry = self.seek_before(&probe)?;
        while entry.group == group && entry.count <= 0 {
            entry = self.seek_before(&Probe::new(group, bytes(&self.arena, entry)))?;
        }
        (entry.group == group).then(|| (bytes(&self.arena, entry), entry.count))
    }

    /// Gives the values of all groups with their copies, negative ones too, from a place on: about `limit`. True when there
    /// are no more.
    pub fn scan(&self, from: &mut Place, limit: usize, mut give: impl FnMut(u32, &[u8], i64)) -> bool {
        let mut given = 0;
        while given < limit {
            let (probe, side) = match &from.value {
                Some(value) => (Probe::new(from.number, value), Ordering::Greater),
                None => (Probe::new(from.number, b""), Ordering::Equal),
            };
            let entries = self.seek_all(&probe, side).unwrap_or(&[]);
            let Some(last) = entries.last() else { return true };
            entries.iter().for_each(|entry| give(entry.group, bytes(&self.arena, entry), entry.count));
            given += entries.len();
            from.number = last.group;
            from.value = Some(bytes(&self.arena, last).to_vec());
        }
        false
    }

    /// Gives the values of all groups, each with its copies in one byte string, as [`Ordered::scan`] does.
    pub fn save(&self, from: &mut Place, limit: usize, give: &mut dyn FnMut(u32, &[u8])) -> bool {
        let mut saved = Vec::new();
        self.scan(from, limit, |group, value, copies| {
            saved.clear();
            varint::put_signed(&mut saved, copies);
            saved.extend_from_slice(value);
            give(group, &saved);
        })
    }

    /// Adds to a group what [`Ordered::save`] gave; none where the bytes are no such thing.
    pub fn load(&mut self, group: u32, mut bytes: &[u8]) -> Option<()> {
        let copies = varint::take_signed(&mut bytes)?;
        self.add(group, bytes, copies);
        Some(())
    }

    /// The first entry that is not before `probe`; with `from` greater, the first after it.
    fn seek(&self, probe: &Probe, from: Ordering) -> Option<&Entry> {
        self.seek_all(probe, from)?.first()
    }

    /// Entries from the one that is sought on, some of those there are.
    fn seek_all(&self, probe: &Probe, from: Ordering) -> Option<&[Entry]> {
        let position = |node: &Node| position(&self.arena, &node.entries, probe, from);
        let mut node = &self.nodes[self.root? as usize];
        // The nearest subtree to the right of the way down: where to go when the leaf has no such entry.
        let mut right = None;
        while !node.children.is_empty() {
            let next = position(node);
            if let Some(child) = node.children.get(next) {
                right = Some(*child);
            }
            node = &self.nodes[node.children[next.saturating_sub(1)] as usize];
        }
        let found = &node.entries[position(node)..];
        if !found.is_empty() {
            return Some(found);
        }
        let mut node = &self.nodes[right? as usize];
        while let Some(child) = node.children.first() {
            node = &self.nodes[*child as usize];
        }
        Some(&node.entries)
    }

    /// The last entry before `probe`.
    fn seek_before(&self, probe: &Probe) -> Option<&Entry> {
        let mut node = &self.nodes[self.root? as usize];
        loop {
            let last = position(&self.arena, &node.entries, probe, Ordering::Equal).checked_sub(1)?;
            match node.children.get(last) {
                Some(child) => node = &self.nodes[*child as usize],
                None => return node.entries.get(last),
            }
        }
    }

    /// Adds copies of a value to a group and gives how many there were before.
    pub fn add(&mut self, group: u32, value: &[u8], diff: i64) -> i64 {
        if diff == 0 {
            return self.count(group, value);
        }
        let probe = Probe::new(group, value);
        let mut at = match self.root {
            Some(root) => root,
            None => {
                let root = self.open(Node::default());
                *self.root.insert(root)
            }
        };
        self.path.clear();
        loop {
            let node = &self.nodes[at as usize];
            if node.children.is_empty() {
                break;
            }
            let next = position(&self.arena, &node.entries, &probe, Ordering::Greater);
            let index = next.saturating_sub(1);
            self.path.push((at, index));
            at = node.children[index];
        }
        let entries = &mut self.nodes[at as usize].entries;
        let index = position(&self.arena, entries, &probe, Ordering::Equal);
        if let Some(entry) = entries.get_mut(index)
            && entry.group == group
            && bytes(&self.arena, entry) == value
        {
            let old = entry.count;
            entry.count += diff;
            if entry.count == 0 {
                self.remove(at, index);
            }
            return old;
        }
        let length = value.len();
        let place = if length <= INLINE { NOWHERE - length as u32 } else { self.arena.push(value) };
        self.insert(at, index, Entry { prefix: prefix(value), group, place, count: diff });
        0
    }

    /// Removes all values of a group.
    pub fn clear(&mut self, group: u32) {
        while let Some(&Entry { prefix, place, count, .. }) =
            self.seek(&Probe::new(group, b""), Ordering::Equal).filter(|entry| entry.group == group)
        {
            let length = (NOWHERE - place) as usize;
            if length <= INLINE {
                self.add(group, &prefix[..length], -count);
            } else {
                let value = self.arena.get(place).to_vec();
                self.add(group, &value, -count);
            }
        }
    }

    /// Bytes held, spare capacity included.
    pub fn bytes(&self) -> usize {
        let nodes: usize = self
            .nodes
            .iter()
            .map(|n| n.entries.capacity() * size_of::<Entry>() + n.children.capacity() * size_of::<u32>())
            .sum();
        nodes + self.nodes.capacity() * size_of::<Node>() + self.arena.bytes()
    }

    fn open(&mut self, node: Node) -> u32 {
        match self.vacant.pop() {
            Some(slot) => {
                self.nodes[slot as usize] = node;
                slot
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        }
    }

    fn close(&mut self, slot: u32) {
        self.nodes[slot as usize] = Node::default();
        self.vacant.push(slot);
    }

    /// Inserts an entry into the leaf that the path leads to.
    fn insert(&mut self, leaf: u32, index: usize, entry: Entry) {
        self.len += 1;
        let node = &mut self.nodes[leaf as usize];
        node.entries.insert(index, entry);
        let ascending = index + 1 == node.entries.len();
        if index == 0 {
            self.refresh(self.path.len(), leaf);
        }
        let mut at = leaf;
        while self.nodes[at as usize].entries.len() > WIDTH {
            // Values that come in ascending order leave full nodes behind.
            let keep = if ascending { WIDTH * 7 / 8 } else { WIDTH / 2 };
            let node = &mut self.nodes[at as usize];
            let entries = node.entries.split_off(keep);
            let children = if node.children.is_empty() { Vec::new() } else { node.children.split_off(keep) };
            let first = entries[0];
            let right = self.open(Node { entries, children });
            match self.path.pop() {
                Some((parent, index)) => {
                    let node = &mut self.nodes[parent as usize];
                    node.entries.insert(index + 1, first);
                    node.children.insert(index + 1, right);
                    at = parent;
                }
                None => {
                    let least = self.nodes[at as usize].entries[0];
                    let root = Node { entries: vec![least, first], children: vec![at, right] };
                    self.root = Some(self.open(root));
                    return;
                }
            }
        }
    }

    /// Copies the first entry of `child`, which is `depth` steps down the path, to the nodes above it.
    fn refresh(&mut self, depth: usize, child: u32) {
        let first = self.nodes[child as usize].entries[0];
        for &(node, index) in self.path[..depth].iter().rev() {
            self.nodes[node as usize].entries[index] = first;
            if index > 0 {
                break;
            }
        }
    }

    /// Removes an entry from the leaf that the path leads to.
    fn remove(&mut self, leaf: u32, index: usize) {
        self.len -= 1;
        let node = &mut self.nodes[leaf as usize];
        let entry = node.entries.remove(index);
        let left = node.entries.len();
        if left == 0 {
            self.detach(leaf);
        } else {
            if index == 0 {
                self.refresh(self.path.len(), leaf);
            }
            if left < WIDTH / 4
                && let Some(&(parent, index)) = self.path.last()
            {
                self.join_leaves(parent, index);
            }
        }
        if (NOWHERE - entry.place) as usize > INLINE {
            self.arena.forget(entry.place);
            if self.arena.wasteful() {
                self.compact();
            }
        }
    }

    /// Takes an empty node out of its parent, and the parent too if that leaves it empty.
    fn detach(&mut self, mut empty: u32) {
        loop {
            self.close(empty);
            let Some((parent, index)) = self.path.pop() else {
                self.root = None;
                return;
            };
            let node = &mut self.nodes[parent as usize];
            node.entries.remove(index);
            node.children.remove(index);
            if !node.children.is_empty() {
                if index == 0 {
                    self.refresh(self.path.len(), parent);
                }
                return self.lower_root();
            }
            empty = parent;
        }
    }

    /// Joins a sparse leaf, the child of `parent` at `index`, with a neighbour if they fit well together.
    fn join_leaves(&mut self, parent: u32, index: usize) {
        let children = &self.nodes[parent as usize].children;
        let left_index = if index + 1 < children.len() { index } else { index.saturating_sub(1) };
        let (Some(&left), Some(&right)) = (children.get(left_index), children.get(left_index + 1)) else { return };
        let total = self.nodes[left as usize].entries.len() + self.nodes[right as usize].entries.len();
        if total > WIDTH * 3 / 4 {
            return;
        }
        let entries = std::mem::take(&mut self.nodes[right as usize].entries);
        self.nodes[left as usize].entries.extend(entries);
        self.close(right);
        let node = &mut self.nodes[parent as usize];
        node.entries.remove(left_index + 1);
        node.children.remove(left_index + 1);
        self.lower_root();
    }

    /// Makes the only child of the root the root.
    fn lower_root(&mut self) {
        while let Some(root) = self.root
            && let [child] = self.nodes[root as usize].children[..]
        {
            self.close(root);
            self.root = Some(child);
        }
    }

    /// Copies the values to a new arena.
    fn compact(&mut self) {
        let mut arena = Arena::default();
        if let Some(root) = self.root {
            self.compact_node(root, &mut arena);
        }
        self.arena = arena;
    }

    fn compact_node(&mut self, at: u32, arena: &mut Arena) -> Entry {
        if self.nodes[at as usize].children.is_empty() {
            for entry in &mut self.nodes[at as usize].entries {
                if (NOWHERE - entry.place) as usize > INLINE {
                    entry.place = arena.push(self.arena.get(entry.place));
                }
            }
        } else {
            for index in 0..self.nodes[at as usize].children.len() {
                let first = self.compact_node(self.nodes[at as usize].children[index], arena);
                self.nodes[at as usize].entries[index] = first;
            }
        }
        self.nodes[at as usize].entries[0]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ops::Bound::{Excluded, Unbounded};

    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    type Model = BTreeMap<(u32, Vec<u8>), i64>;

    fn value(rng: &mut SmallRng, kind: u32) -> Vec<u8> {
        match kind {
            0 => rng.random_range(0..2_000u64).to_be_bytes().to_vec(),
            1 => vec![0; rng.random_range(0..12)],
            2 => format!("a common prefix {}", rng.random_range(0..2_000)).into_bytes(),
            _ => (0..rng.random_range(0..30)).map(|_| rng.random_range(0..3)).collect(),
        }
    }

    fn check(ordered: &Ordered, model: &Model, group: u32, value: &[u8]) {
        let of_group = |entry: Option<(&(u32, Vec<u8>), &i64)>| {
            entry.filter(|((g, _), _)| *g == group).map(|((_, value), count)| (value.clone(), *count))
        };
        let own = |entry: Option<(&[u8], i64)>| entry.map(|(value, count)| (value.to_vec(), count));
        let key = (group, value.to_vec());
        let end = (group + 1, Vec::new());
        let visible = |range: std::collections::btree_map::Range<'_, _, _>| -> Model {
            range.filter(|(_, c)| **c > 0).map(|(k, c): (&(u32, Vec<u8>), &i64)| (k.clone(), *c)).collect()
        };
        let all = visible(model.range((group, Vec::new())..end));
        assert_eq!(own(ordered.first(group)), of_group(all.first_key_value()));
        assert_eq!(own(ordered.last(group)), of_group(all.last_key_value()));
        assert_eq!(own(ordered.after(group, value)), of_group(all.range((Excluded(&key), Unbounded)).next()));
        assert_eq!(own(ordered.before(group, value)), of_group(all.range(..&key).next_back()));
        assert_eq!(ordered.count(group, value), model.get(&key).copied().unwrap_or(0));
        assert_eq!(ordered.has(group), model.keys().any(|(g, _)| *g == group));
    }

    #[test]
    fn agrees_with_a_map() {
        for seed in 0..16 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut ordered = Ordered::default();
            let mut model = Model::new();
            let groups = [1, 5, 300][seed as usize % 3];
            for step in 0..6_000 {
                let group = rng.random_range(0..groups);
                let kind = if seed < 8 { seed as u32 % 4 } else { rng.random_range(0..4) };
                let mut bytes = value(&mut rng, kind);
                let mut diff = [1, 1, 2, -1][rng.random_range(0..4)];
                // Later mostly remove what is there.
                if step > 3_000
                    && rng.random_bool(0.8)
                    && let Some(((g, v), c)) = model.range((group, bytes.clone())..).next()
                    && *g == group
                {
                    (bytes, diff) = (v.clone(), -c);
                }
                let count = model.entry((group, bytes.clone())).or_default();
                assert_eq!(ordered.add(group, &bytes, diff), *count);
                *count += diff;
                if *count == 0 {
                    model.remove(&(group, bytes.clone()));
                }
                assert_eq!(ordered.len(), model.len());
                if step % 16 == 0 {
                    check(&ordered, &model, group, &bytes);
                }
            }
            let (mut place, mut scanned, limit) = (Place::default(), Model::new(), 1 + seed as usize * 40);
            while !ordered.scan(&mut place, limit, |group, value, count| {
                assert_eq!(scanned.insert((group, value.to_vec()), count), None);
            }) {}
            assert_eq!(scanned, model);
            for group in 0..groups {
                ordered.clear(group);
                assert!(!ordered.has(group));
            }
            assert!(ordered.is_empty() && ordered.root.is_none());
            assert_eq!(ordered.nodes.len(), ordered.vacant.len());
        }
    }

    #[test]
    fn ascending_values_fill_their_nodes() {
        let mut ordered = Ordered::default();
        for value in 0..100_000u64 {
            ordered.add(0, &value.to_be_bytes(), 1);
        }
        assert!(ordered.bytes() < 100_000 * 48, "{} bytes", ordered.bytes());
    }
}
