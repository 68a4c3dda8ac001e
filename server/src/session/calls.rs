//! The open calls of a worker, by stream.
//!
//! A stream's id names its place in the transport's table, so a call is found without a search and
//! costs no allocation. Leaves out what a call is.
//!
//! Law: a place holds at most one call, and an id that is not that call's finds nothing.
//!
//! Worked example: stream 5·7 (use 5 of place 7) is removed; stream 6·7 takes the place, and 5·7 finds
//! nothing any more.

use holdfast_net::call::StreamId;

/// See the module.
pub(super) struct Calls<T> {
    places: Vec<Option<(StreamId, T)>>,
}

impl<T> Default for Calls<T> {
    fn default() -> Calls<T> {
        Calls { places: Vec::new() }
    }
}

impl<T> Calls<T> {
    /// Adds a call; one that had its place before is gone.
    pub(super) fn insert(&mut self, stream: StreamId, call: T) {
        let place = stream.place();
        if self.places.len() <= place {
            self.places.resize_with(place + 1, || None);
        }
        self.places[place] = Some((stream, call));
    }

    pub(super) fn get(&self, stream: StreamId) -> Option<&T> {
        let place = self.places.get(stream.place())?.as_ref();
        place.filter(|(there, _)| *there == stream).map(|(_, call)| call)
    }

    pub(super) fn get_mut(&mut self, stream: StreamId) -> Option<&mut T> {
        let place = self.places.get_mut(stream.place())?.as_mut();
        place.filter(|(there, _)| *there == stream).map(|(_, call)| call)
    }

    pub(super) fn remove(&mut self, stream: StreamId) -> Option<T> {
        self.get(stream)?;
        self.places[stream.place()].take().map(|(_, call)| call)
    }

    /// All of them, in the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (StreamId, &T)> {
        self.places.iter().flatten().map(|(stream, call)| (*stream, call))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_name_finds_nothing() {
        let mut calls = Calls::default();
        let [old, new, other] = [5 << 20 | 7, 6 << 20 | 7, 5 << 20 | 2].map(StreamId);
        calls.insert(old, 'a');
        calls.insert(other, 'b');
        assert_eq!((calls.get(old), calls.get(new)), (Some(&'a'), None));
        assert_eq!(
            (calls.remove(new), calls.remove(old), calls.remove(old)),
            (None, Some('a'), None)
        );
        calls.insert(new, 'c');
        assert_eq!(calls.get_mut(old), None);
        assert_eq!(calls.get_mut(new), Some(&mut 'c'));
        assert_eq!(calls.iter().collect::<Vec<_>>(), [(other, &'b'), (new, &'c')]);
    }
}
