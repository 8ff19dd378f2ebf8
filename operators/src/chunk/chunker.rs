//! Chunks from typed updates, for recursive scopes.

use std::collections::VecDeque;

use timely::container::{ContainerBuilder, PushInto};

use super::{MAX_ROWS, RowBuffer, RowChunk};
use crate::keyed::hash;

/// Sorts `((key, value), time, diff)` updates of byte strings into chunks, as
/// [`arrange_core`](differential_dataflow::operators::arrange::arrangement::arrange_core) asks.
pub struct RowChunker<T> {
    pending: RowBuffer<T>,
    ready: VecDeque<RowChunk<T>>,
    out: RowChunk<T>,
}

impl<T: Default> Default for RowChunker<T> {
    fn default() -> Self {
        RowChunker { pending: RowBuffer::default(), ready: VecDeque::new(), out: RowChunk::default() }
    }
}

impl<K, V, T> PushInto<&mut Vec<((K, V), T, i64)>> for RowChunker<T>
where
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
    T: Ord + Clone + Default,
{
    fn push_into(&mut self, updates: &mut Vec<((K, V), T, i64)>) {
        for ((key, val), time, diff) in updates.drain(..) {
            let key = key.as_ref();
            self.pending.push(hash(key), key, val.as_ref(), &time, diff);
            if self.pending.len() >= MAX_ROWS {
                std::mem::take(&mut self.pending).sort(&mut self.ready);
            }
        }
    }
}

impl<T: Ord + Clone + Default + 'static> ContainerBuilder for RowChunker<T> {
    type Container = RowChunk<T>;

    fn extract(&mut self) -> Option<&mut RowChunk<T>> {
        self.out = self.ready.pop_front()?;
        Some(&mut self.out)
    }

    fn finish(&mut self) -> Option<&mut RowChunk<T>> {
        std::mem::take(&mut self.pending).sort(&mut self.ready);
        self.extract()
    }
}
