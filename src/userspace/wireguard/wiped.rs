//! What is wiped when it goes, although its maker does not.

use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::{Deref, DerefMut};
use zeroize::Zeroize;

/// A value in a place of its own, where it stays until it is dropped; then its bytes are zeros. What it points at is its own affair.
pub struct Wiped<T>(Box<ManuallyDrop<T>>);

impl<T> Wiped<T> {
    pub fn new(value: T) -> Self {
        Self(Box::new(ManuallyDrop::new(value)))
    }
}

impl<T> Deref for Wiped<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Wiped<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> Drop for Wiped<T> {
    fn drop(&mut self) {
        // SAFETY: the value is not used any more: this is the end of whoever owned it.
        unsafe { end(&mut self.0) };
    }
}

/// Drops a value and wipes its place.
///
/// # Safety
/// Nobody may use the value afterwards.
unsafe fn end<T>(place: &mut ManuallyDrop<T>) {
    // SAFETY: it is dropped here for the first and last time: a `ManuallyDrop` does not drop it, and the caller does not use it again.
    unsafe { ManuallyDrop::drop(place) };
    let bytes = std::ptr::from_mut(place).cast::<MaybeUninit<u8>>();
    // SAFETY: the place is as large as the value, which is over: as bytes that need not be any, it is borrowed through `place` alone.
    unsafe { std::slice::from_raw_parts_mut(bytes, size_of::<T>()) }.zeroize();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    struct Secret {
        bytes: [u8; 32],
        dropped: Rc<Cell<u32>>,
    }

    impl Drop for Secret {
        fn drop(&mut self) {
            self.dropped.set(self.dropped.get() + 1);
        }
    }

    #[test]
    fn nothing_of_it_is_left() {
        let dropped = Rc::<Cell<u32>>::default();
        let mut place = ManuallyDrop::new(Secret { bytes: [7; 32], dropped: dropped.clone() });
        let bytes = std::ptr::from_ref(&place).cast::<MaybeUninit<u8>>();
        // SAFETY: `place` is not used as a value again.
        unsafe { end(&mut place) };
        // SAFETY: every byte of `place`, which is still there, was written by `end`.
        let left: Vec<u8> = (0..size_of::<Secret>()).map(|n| unsafe { bytes.add(n).read().assume_init() }).collect();
        assert_eq!(left, vec![0; size_of::<Secret>()]);
        assert_eq!((dropped.get(), Rc::strong_count(&dropped)), (1, 1));
    }

    #[test]
    fn it_is_used_like_what_is_in_it_and_dropped_once() {
        let dropped = Rc::<Cell<u32>>::default();
        let mut wiped = Wiped::new(Secret { bytes: [1; 32], dropped: dropped.clone() });
        wiped.bytes[0] = 2;
        assert_eq!((wiped.bytes[0], dropped.get()), (2, 0));
        drop(wiped);
        assert_eq!(dropped.get(), 1);
    }
}
