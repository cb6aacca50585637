//! Formatting that goes on over the ends of blocks: the standard's list of active formatting elements.

use std::rc::Rc;

use super::{
    elements::Traits,
    hidden::OwnLook,
    tag::Tag,
    tree::{ElementId, MAX_SEARCHED, Node, Open, Started, Tree},
};

/// Of how many formatting elements is kept that they begin again after the end of a block.
const MAX_FORMATTING: usize = 32;

/// A formatting element that begins again in the next block, unless its end tag comes before.
#[derive(Debug, Clone)]
pub(super) struct Formatting {
    id: ElementId,
    started: Rc<Started>,
}

impl Tree {
    pub(super) fn push_marker(&mut self) {
        self.formatting.push(None);
    }

    pub(super) fn clear_to_marker(&mut self) {
        while let Some(Some(_)) = self.formatting.pop() {}
    }

    /// Where the formatting elements are that have begun since the last marker.
    fn since_marker(&self) -> std::ops::Range<usize> {
        let marker = self.formatting.iter().rposition(Option::is_none);
        marker.map_or(0, |at| at + 1)..self.formatting.len()
    }

    fn listed(&self, id: ElementId) -> Option<usize> {
        self.since_marker().find(|at| self.formatting[*at].as_ref().is_some_and(|listed| listed.id == id))
    }

    /// The last formatting element of this name since the last marker.
    pub(super) fn last_formatting(&self, name: &[u8]) -> Option<ElementId> {
        self.last_listed(name).map(|(_, id)| id)
    }

    fn last_listed(&self, name: &[u8]) -> Option<(usize, ElementId)> {
        self.since_marker().rev().find_map(|at| {
            let listed = self.formatting[at].as_ref()?;
            (*listed.started.name == *name).then_some((at, listed.id))
        })
    }

    pub(super) fn forget_formatting(&mut self, id: ElementId) {
        if let Some(at) = self.listed(id) {
            self.formatting.remove(at);
        }
    }

    /// Inserts a formatting element.
    pub(super) fn insert_formatting(&mut self, tag: &Tag) -> ElementId {
        let started = Rc::new(Started::html(tag));
        let is_same = |other: &Started| other.name == started.name && other.fingerprint == started.fingerprint;
        let listed = |tree: &Self, at: usize| tree.formatting[at].as_ref().is_some_and(|other| is_same(&other.started));
        let same: Vec<_> = self.since_marker().filter(|at| listed(self, *at)).collect();
        // Of what is the same, three are kept.
        if let [first, _, _, ..] = same.as_slice() {
            self.formatting.remove(*first);
        }
        let id = self.insert_shared(started.clone());
        self.formatting.push(Some(Formatting { id, started }));
        self.bound_formatting();
        id
    }

    /// Drops the oldest formatting elements where there are too many. If one can hide text, the one after it hides
    /// what is in it from now on.
    fn bound_formatting(&mut self) {
        let since_marker = self.since_marker();
        if since_marker.len() <= MAX_FORMATTING {
            return;
        }
        let dropped = self.formatting.remove(since_marker.start).is_some_and(|dropped| dropped.started.look.can_hide());
        if let Some(Some(next)) = self.formatting.get_mut(since_marker.start)
            && dropped
        {
            next.started = Rc::new(Started { look: OwnLook::gone(), ..(*next.started).clone() });
        }
    }

    /// Lets the formatting elements begin again that were closed with a block and have no end tag.
    pub(super) fn reconstruct_formatting(&mut self) {
        let is_open =
            |tree: &Self, at: usize| tree.formatting[at].as_ref().is_some_and(|listed| tree.is_open(listed.id));
        let range = self.since_marker();
        let first = range.clone().rev().take_while(|at| !is_open(self, *at)).last();
        for at in first.unwrap_or(range.end)..range.end {
            let Some(started) = self.formatting[at].as_ref().map(|listed| listed.started.clone()) else { continue };
            let id = self.insert_shared(started.clone());
            self.formatting[at] = Some(Formatting { id, started });
        }
    }

    /// Ends formatting, also where blocks began within it: those that are open go on without it, and with it what is in
    /// them already. The standard's adoption agency algorithm. `false`: it is an end tag like any other.
    pub(super) fn adopt(&mut self, name: &[u8]) -> bool {
        if let Some(current) = self.current()
            && current.is(name)
            && self.listed(current.id).is_none()
        {
            self.close_from(self.open.len() - 1);
            return true;
        }
        for _ in 0..8 {
            let Some((entry, id)) = self.last_listed(name) else { return false };
            let Some(at) = self.position(id) else {
                if self.open.len() <= MAX_SEARCHED {
                    self.formatting.remove(entry);
                }
                return true;
            };
            let within = &self.open[at + 1..];
            if within.iter().any(|open| open.has(Traits::SCOPE)) {
                return true;
            }
            let Some(block) = within.iter().position(|open| open.has(Traits::SPECIAL)) else {
                self.close_from(at);
                self.formatting.remove(entry);
                return true;
            };
            self.adopt_block(at, at + 1 + block);
        }
        true
    }

    /// Moves the block at this depth out of the formatting element at `at`.
    fn adopt_block(&mut self, at: usize, block: usize) {
        let mut between = self.open.drain(at..block);
        let Some(ended) = between.next() else { return };
        let between: Vec<Open> = between.collect();
        let mut again = Vec::new();
        for (n, open) in between.into_iter().rev().enumerate() {
            let Some(entry) = self.listed(open.id) else { continue };
            // The fourth and those around it end.
            if n > 2 {
                self.formatting.remove(entry);
                continue;
            }
            let id = self.add(ElementId::BODY, open.started.clone());
            self.formatting[entry] = Some(Formatting { id, started: open.started.clone() });
            again.push(Open { id, ..open });
        }
        let innermost = again.first().map(|innermost| innermost.id);
        let mut parent = self.place_at(at);
        for open in again.iter().rev() {
            self.nodes[open.id.index()].parent = parent;
            parent = open.id;
        }
        let block = at + again.len();
        self.open.splice(at..at, again.into_iter().rev());
        // What is within the block is within the formatting element, and that within the block: the block becomes the
        // formatting element, and another one the block.
        let inner = self.open[block].id;
        let outer = self.add(parent, self.open[block].started.clone());
        self.nodes[inner.index()] = Node { parent: outer, started: ended.started.clone() };
        self.open[block].id = outer;
        if self.form == Some(inner) {
            self.form = Some(outer);
        }
        self.list_again(ended.id, innermost, Formatting { id: inner, started: ended.started.clone() });
        self.open.insert(block + 1, Open { id: inner, ..ended });
    }

    /// Lists formatting that has begun again, after the innermost of those around it or in the place of the old one.
    fn list_again(&mut self, old: ElementId, after: Option<ElementId>, formatting: Formatting) {
        if let Some(bookmark) = after.and_then(|after| self.listed(after)) {
            self.formatting.insert(bookmark + 1, Some(formatting));
            self.forget_formatting(old);
        } else if let Some(entry) = self.listed(old) {
            self.formatting[entry] = Some(formatting);
        }
    }
}
