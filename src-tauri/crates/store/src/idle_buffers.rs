//! Buffers for the bytes of blocks, used again and again: fresh memory costs more than what is copied into it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// The bytes of one block, wherever they are.
pub struct BlockBytes(Bytes);

enum Bytes {
    Own(Vec<u8>),
    /// To be given back to the idle buffers; taken out only when dropped.
    Reused(Vec<u8>, Arc<IdleBuffers>),
    Lent(Box<dyn DerefMut<Target = [u8]> + Send + Sync>),
}

impl BlockBytes {
    /// Somebody else's memory, for the store to fill; it is given back when this is dropped.
    pub fn lent(room: Box<dyn DerefMut<Target = [u8]> + Send + Sync>) -> BlockBytes {
        BlockBytes(Bytes::Lent(room))
    }

    /// Whether it is the memory that was lent.
    pub fn is_lent(&self) -> bool {
        matches!(self.0, Bytes::Lent(_))
    }
}

/// Buffers that nobody uses at the moment, up to so many bytes.
pub(crate) struct IdleBuffers {
    max_idle_bytes: usize,
    /// Guards the idle buffers; all of one length.
    idle: Mutex<Vec<Vec<u8>>>,
}

impl IdleBuffers {
    pub(crate) fn new(max_idle_bytes: usize) -> Arc<IdleBuffers> {
        Arc::new(IdleBuffers { max_idle_bytes, idle: Mutex::default() })
    }

    /// A buffer of `n_bytes` with any content.
    pub(crate) fn take(self: &Arc<Self>, n_bytes: usize) -> BlockBytes {
        let reused = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.first().is_some_and(|buffer| buffer.len() != n_bytes) {
                idle.clear();
            }
            idle.pop()
        };
        let bytes = reused.unwrap_or_else(|| vec![0; n_bytes]);
        BlockBytes(Bytes::Reused(bytes, Arc::clone(self)))
    }

    /// Give the idle buffers' memory back to the system.
    pub(crate) fn free(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        // What the lock guards is out of it: others need not wait for the system.
        drop(idle);
    }

    #[cfg(test)]
    pub(crate) fn n_idle(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let is_alike = idle.first().is_none_or(|buffer| buffer.len() == bytes.len());
        if is_alike && (idle.len() + 1) * bytes.len() <= self.max_idle_bytes {
            idle.push(bytes);
        }
    }
}

impl Drop for BlockBytes {
    fn drop(&mut self) {
        if let Bytes::Reused(bytes, home) = &mut self.0 {
            home.give_back(std::mem::take(bytes));
        }
    }
}

impl From<Vec<u8>> for BlockBytes {
    fn from(bytes: Vec<u8>) -> BlockBytes {
        BlockBytes(Bytes::Own(bytes))
    }
}

impl Deref for BlockBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Own(bytes) | Bytes::Reused(bytes, _) => bytes,
            Bytes::Lent(room) => room,
        }
    }
}

impl DerefMut for BlockBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Bytes::Own(bytes) | Bytes::Reused(bytes, _) => bytes,
            Bytes::Lent(room) => room,
        }
    }
}

impl Clone for BlockBytes {
    fn clone(&self) -> BlockBytes {
        BlockBytes::from(self.to_vec())
    }
}

impl PartialEq for BlockBytes {
    fn eq(&self, other: &BlockBytes) -> bool {
        **self == **other
    }
}

impl Eq for BlockBytes {}

impl fmt::Debug for BlockBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of a block", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again_and_no_more_lie_idle_than_agreed() {
        let buffers = IdleBuffers::new(250);
        let mut first = buffers.take(100);
        first.fill(7);
        let place = first.as_ptr();
        drop(first);
        let again = buffers.take(100);
        assert_eq!((again.as_ptr(), again.len(), buffers.n_idle()), (place, 100, 0));
        let more = [buffers.take(100), buffers.take(100)];
        drop((again, more));
        assert_eq!(buffers.n_idle(), 2, "a third would be more than 250 bytes");
        buffers.free();
        assert_eq!((buffers.n_idle(), buffers.take(100).len()), (0, 100));
    }

    #[test]
    fn buffers_of_another_length_make_room() {
        let buffers = IdleBuffers::new(1000);
        drop(buffers.take(100));
        let other = buffers.take(40);
        assert_eq!((other.len(), buffers.n_idle()), (40, 0));
        let old = buffers.take(100);
        drop(other);
        drop(old);
        assert_eq!(buffers.idle.lock().unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [40]);
    }

    #[test]
    fn bytes_of_somebody_s_own_go_nowhere() {
        let own = BlockBytes::from(vec![1, 2, 3]);
        let mut lent = BlockBytes::lent(Box::new(vec![0; 3]));
        lent.copy_from_slice(&own);
        let copy = lent.clone();
        assert_eq!((&own, &copy, own.len()), (&lent, &own, 3));
        assert_eq!([own.is_lent(), lent.is_lent(), copy.is_lent()], [false, true, false]);
    }
}
