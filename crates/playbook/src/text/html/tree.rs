//! The elements that are open while HTML is read, as a browser keeps them.
//!
//! This is what the HTML standard's tree construction says about what a text is inside of. Only by its rules is hidden text
//! never read and visible text never lost, whatever tags are missing, misplaced or nested wrongly. Of each element only what
//! it is inside of is kept, and what it says. Source: <https://html.spec.whatwg.org/multipage/parsing.html#tree-construction>.

use std::rc::Rc;

use super::{
    elements::{Category, Element, Traits},
    hidden::{Look, OwnLook},
    tag::Tag,
};

/// How many of the innermost open elements are searched for one that a tag ends. In more deeply nested HTML a tag ends none
/// of those further out.
const MAX_SEARCHED: usize = 256;

/// Of how many formatting elements is kept that they begin again after the end of a block.
const MAX_FORMATTING: usize = 32;

/// An element that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ElementId(u32);

impl ElementId {
    const HTML: Self = Self(0);
    const BODY: Self = Self(1);

    fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Namespace {
    Html,
    Svg,
    MathMl,
}

/// What holds for the text at one place.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Setting {
    pub(super) look: Look,
    pub(super) is_quoted: bool,
    pub(super) is_preformatted: bool,
}

impl Setting {
    pub(super) fn within(self, look: OwnLook, category: Category) -> Self {
        Self {
            look: self.look.within(if category == Category::NotText { OwnLook::gone() } else { look }),
            is_quoted: self.is_quoted || category == Category::Quotation,
            is_preformatted: self.is_preformatted || category == Category::Preformatted,
        }
    }
}

/// What is known of an element from its start tag.
#[derive(Debug, Clone)]
pub(super) struct Started {
    name: Box<[u8]>,
    namespace: Namespace,
    traits: Traits,
    category: Category,
    look: OwnLook,
    fingerprint: u64,
}

impl Started {
    pub(super) fn html(tag: &Tag) -> Self {
        let category = Element::named(&tag.name).category;
        Self::new(tag, Namespace::Html, Traits::of_html(&tag.name), category)
    }

    pub(super) fn foreign(tag: &Tag, namespace: Namespace) -> Self {
        let encoding = tag.get(b"encoding").unwrap_or_default().to_ascii_lowercase();
        let is_html = matches!(encoding.as_str(), "text/html" | "application/xhtml+xml");
        let traits = match namespace {
            Namespace::Html => Traits::of_html(&tag.name),
            Namespace::Svg => Traits::of_svg(&tag.name),
            Namespace::MathMl => Traits::of_math(&tag.name, is_html),
        };
        Self::new(tag, namespace, traits, Category::NotText)
    }

    fn new(tag: &Tag, namespace: Namespace, traits: Traits, category: Category) -> Self {
        let (name, look, fingerprint) = (tag.name.clone().into_boxed_slice(), OwnLook::of(tag), tag.fingerprint());
        Self { name, namespace, traits, category, look, fingerprint }
    }
}

/// An element, open or not.
#[derive(Debug)]
struct Node {
    parent: ElementId,
    started: Rc<Started>,
}

#[derive(Debug, Clone)]
pub(super) struct Open {
    id: ElementId,
    started: Rc<Started>,
    /// How many items of a list have begun.
    items: usize,
}

impl Open {
    pub(super) fn is(&self, name: &[u8]) -> bool {
        self.started.namespace == Namespace::Html && *self.started.name == *name
    }

    pub(super) fn id(&self) -> ElementId {
        self.id
    }

    pub(super) fn is_one_of(&self, names: &[&[u8]]) -> bool {
        names.iter().any(|name| self.is(name))
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.started.name
    }

    pub(super) fn namespace(&self) -> Namespace {
        self.started.namespace
    }

    pub(super) fn has(&self, any_of: Traits) -> bool {
        self.started.traits.has(any_of)
    }
}

/// A formatting element that begins again in the next block, unless its end tag comes before.
#[derive(Debug, Clone)]
struct Formatting {
    id: ElementId,
    started: Rc<Started>,
}

/// How tags are read: the standard's insertion modes, as far as they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Body,
    Table,
    Caption,
    ColumnGroup,
    TableBody,
    Row,
    Cell,
}

/// The stack of open elements within the body, and the list of active formatting elements.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    open: Vec<Open>,
    /// Where the elements are that determine the mode.
    contexts: Vec<usize>,
    /// `None`: a marker, which no formatting crosses.
    formatting: Vec<Option<Formatting>>,
    /// The form in which controls are, open or not.
    pub(super) form: Option<ElementId>,
    /// Whether what is inserted into a table is moved before it.
    pub(super) is_fostering: bool,
}

impl Default for Tree {
    fn default() -> Self {
        let root = |name| Node { parent: ElementId::HTML, started: Rc::new(Started::html(&Tag::named(name))) };
        Self {
            nodes: vec![root(b"html"), root(b"body")],
            open: Vec::new(),
            contexts: Vec::new(),
            formatting: Vec::new(),
            form: None,
            is_fostering: false,
        }
    }
}

impl Tree {
    pub(super) fn current(&self) -> Option<&Open> {
        self.open.last()
    }

    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_current(&self, names: &[&[u8]]) -> bool {
        self.current().is_some_and(|open| open.is_one_of(names))
    }

    pub(super) fn mode(&self) -> Mode {
        let Some(at) = self.contexts.last() else { return Mode::Body };
        match self.open[*at].name() {
            b"table" => Mode::Table,
            b"caption" => Mode::Caption,
            b"colgroup" => Mode::ColumnGroup,
            b"tbody" | b"tfoot" | b"thead" => Mode::TableBody,
            b"tr" => Mode::Row,
            b"td" | b"th" => Mode::Cell,
            // Nothing in a template is shown, whatever it is.
            _ => Mode::Body,
        }
    }

    /// The innermost open elements, from the inside.
    pub(super) fn innermost(&self) -> impl Iterator<Item = (usize, &Open)> {
        self.open.iter().enumerate().rev().take(MAX_SEARCHED)
    }

    /// Where the innermost open element of this name is, unless an element with one of these traits is within it.
    pub(super) fn in_scope_but(&self, name: &[u8], boundary: Traits) -> Option<usize> {
        for (at, open) in self.innermost() {
            if open.is(name) {
                return Some(at);
            }
            if open.has(boundary) {
                return None;
            }
        }
        None
    }

    pub(super) fn in_scope(&self, name: &[u8]) -> Option<usize> {
        self.in_scope_but(name, Traits::SCOPE)
    }

    /// As `in_scope`, for the parts of the innermost table.
    pub(super) fn in_table_scope(&self, name: &[u8]) -> Option<usize> {
        for at in self.contexts.iter().rev() {
            let open = &self.open[*at];
            if open.is(name) {
                return Some(*at);
            }
            if open.is_one_of(&[b"table", b"template"]) {
                return None;
            }
        }
        None
    }

    pub(super) fn is_in_template(&self) -> bool {
        self.contexts.iter().any(|at| self.open[*at].is(b"template"))
    }

    /// Whether the innermost element that determines the mode has this name.
    pub(super) fn innermost_context_is(&self, name: &[u8]) -> bool {
        self.contexts.last().is_some_and(|at| self.open[*at].is(name))
    }

    fn position(&self, id: ElementId) -> Option<usize> {
        self.innermost().find(|(_, open)| open.id == id).map(|(at, _)| at)
    }

    /// Whether the element has not ended.
    pub(super) fn is_open(&self, id: ElementId) -> bool {
        self.position(id).is_some()
    }

    /// What is inserted into the element at this depth is inside of this one.
    fn place_at(&self, depth: usize) -> ElementId {
        let Some(target) = depth.checked_sub(1).map(|at| &self.open[at]) else { return ElementId::BODY };
        if !(self.is_fostering && target.has(Traits::FOSTERING)) {
            return target.id;
        }
        let mut contexts = self.contexts.iter().rev().map(|at| &self.open[*at]);
        match contexts.find(|open| open.is_one_of(&[b"table", b"template"])) {
            Some(table) if table.is(b"table") => self.nodes[table.id.index()].parent,
            Some(template) => template.id,
            None => ElementId::BODY,
        }
    }

    /// What is inserted now is inside of this element.
    pub(super) fn place(&self) -> ElementId {
        self.place_at(self.open.len())
    }

    fn add(&mut self, parent: ElementId, started: Rc<Started>) -> ElementId {
        // A text of 65,536 characters has fewer elements.
        let id = ElementId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(Node { parent, started });
        id
    }

    /// Inserts an element, which is open then.
    pub(super) fn insert(&mut self, started: Started) -> ElementId {
        self.insert_shared(Rc::new(started))
    }

    fn insert_shared(&mut self, started: Rc<Started>) -> ElementId {
        let id = self.add(self.place(), started.clone());
        if started.traits.has(Traits::CONTEXT) {
            self.contexts.push(self.open.len());
        }
        self.open.push(Open { id, started, items: 0 });
        id
    }

    /// Inserts an element that is complete with its start tag.
    pub(super) fn insert_closed(&mut self, started: Started) -> ElementId {
        self.add(self.place(), Rc::new(started))
    }

    /// What the tags of `html` and `body` say, together.
    pub(super) fn set_roots(&mut self, html: &Tag, body: &Tag) {
        self.nodes[ElementId::HTML.index()].started = Rc::new(Started::html(html));
        self.nodes[ElementId::BODY.index()].started = Rc::new(Started::html(body));
    }

    /// Ends the elements from this depth inwards.
    pub(super) fn close_from(&mut self, depth: usize) {
        self.open.truncate(depth);
        while self.contexts.last().is_some_and(|at| *at >= depth) {
            self.contexts.pop();
        }
    }

    /// Ends the elements from the innermost one that determines the mode inwards, or those within it.
    pub(super) fn close_context(&mut self, with_itself: bool) {
        if let Some(at) = self.contexts.last() {
            self.close_from(at + usize::from(!with_itself));
        }
    }

    pub(super) fn close_implied_but(&mut self, name: &[u8]) {
        while self.current().is_some_and(|open| open.has(Traits::IMPLIED_END) && !open.is(name)) {
            self.close_from(self.open.len() - 1);
        }
    }

    pub(super) fn close_paragraph(&mut self) {
        if let Some(at) = self.in_scope_but(b"p", PARAGRAPH_SCOPE) {
            self.close_from(at);
        }
    }

    /// Takes an element out of the stack. What is open within it stays within it.
    pub(super) fn remove(&mut self, id: ElementId) {
        let Some(at) = self.position(id) else { return };
        self.open.remove(at);
        for context in self.contexts.iter_mut().rev().take_while(|context| **context > at) {
            *context -= 1;
        }
    }

    /// Counts an item of the innermost list that is open. `None`: it is not numbered.
    pub(super) fn next_item(&mut self) -> Option<usize> {
        let list = |open: &Open| match open.started.category {
            Category::List { is_numbered } => Some(is_numbered),
            _ => None,
        };
        let (at, is_numbered) = self.innermost().find_map(|(at, open)| Some((at, list(open)?)))?;
        self.open[at].items += 1;
        is_numbered.then_some(self.open[at].items)
    }

    /// How many lists are open; at most `most` are counted.
    pub(super) fn open_lists(&self, most: usize) -> usize {
        let is_list = |open: &Open| matches!(open.started.category, Category::List { .. });
        self.innermost().filter(|(_, open)| is_list(open)).take(most).count()
    }
}

/// What keeps the tags within from ending a paragraph.
pub(super) const PARAGRAPH_SCOPE: Traits = Traits::SCOPE.and(Traits::PARAGRAPH_SCOPE);

/// The list of active formatting elements.
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

/// What holds in the elements of a tree.
pub(super) struct Settings {
    nodes: Vec<Node>,
    known: Vec<Option<Setting>>,
    page: Setting,
}

impl Settings {
    /// Those of a complete tree on a page where this holds.
    pub(super) fn of(tree: Tree, page: Setting) -> Self {
        let known = vec![None; tree.nodes.len()];
        Self { nodes: tree.nodes, known, page }
    }

    /// What holds for text in this element.
    pub(super) fn within(&mut self, id: ElementId) -> Setting {
        let mut around = self.page;
        let mut unknown = Vec::new();
        let mut id = id;
        loop {
            if let Some(known) = self.known[id.index()] {
                around = known;
                break;
            }
            unknown.push(id);
            if id == ElementId::HTML {
                break;
            }
            id = self.nodes[id.index()].parent;
        }
        for id in unknown.into_iter().rev() {
            let started = &self.nodes[id.index()].started;
            around = around.within(started.look, started.category);
            self.known[id.index()] = Some(around);
        }
        around
    }
}
