//! The elements that are open while HTML is read, as a browser keeps them.
//!
//! This is what the HTML standard's tree construction says about what a text is inside of. Only by its rules is hidden text
//! never read and visible text never lost, whatever tags are missing, misplaced or nested wrongly. Of each element only what
//! it is inside of is kept, and what it says. Source: <https://html.spec.whatwg.org/multipage/parsing.html#tree-construction>.

use std::rc::Rc;

use super::{
    elements::{Category, Element, Traits},
    formatting::Formatting,
    hidden::OwnLook,
    tag::Tag,
};

/// How many of the innermost open elements are searched for one that a tag ends. In more deeply nested HTML a tag ends none
/// of those further out.
pub(super) const MAX_SEARCHED: usize = 256;

/// An element that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ElementId(u32);

impl ElementId {
    pub(super) const HTML: Self = Self(0);
    pub(super) const BODY: Self = Self(1);

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Namespace {
    Html,
    Svg,
    MathMl,
}

/// What is known of an element from its start tag.
#[derive(Debug, Clone)]
pub(super) struct Started {
    pub(super) name: Box<[u8]>,
    pub(super) namespace: Namespace,
    pub(super) traits: Traits,
    pub(super) category: Category,
    pub(super) look: OwnLook,
    pub(super) fingerprint: u64,
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
pub(super) struct Node {
    pub(super) parent: ElementId,
    pub(super) started: Rc<Started>,
}

#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) id: ElementId,
    pub(super) started: Rc<Started>,
    /// How many items of a list have begun.
    pub(super) items: usize,
}

impl Open {
    pub(super) fn is(&self, name: &[u8]) -> bool {
        self.started.namespace == Namespace::Html && *self.started.name == *name
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
    pub(super) nodes: Vec<Node>,
    pub(super) open: Vec<Open>,
    /// Where the elements are that determine the mode.
    contexts: Vec<usize>,
    /// `None`: a marker, which no formatting crosses.
    pub(super) formatting: Vec<Option<Formatting>>,
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

    pub(super) fn position(&self, id: ElementId) -> Option<usize> {
        self.innermost().find(|(_, open)| open.id == id).map(|(at, _)| at)
    }

    /// Whether the element has not ended.
    pub(super) fn is_open(&self, id: ElementId) -> bool {
        self.position(id).is_some()
    }

    /// What is inserted into the element at this depth is inside of this one.
    pub(super) fn place_at(&self, depth: usize) -> ElementId {
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

    pub(super) fn add(&mut self, parent: ElementId, started: Rc<Started>) -> ElementId {
        // A text of 65,536 characters has fewer elements.
        let id = ElementId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(Node { parent, started });
        id
    }

    /// Inserts an element, which is open then.
    pub(super) fn insert(&mut self, started: Started) -> ElementId {
        self.insert_shared(Rc::new(started))
    }

    pub(super) fn insert_shared(&mut self, started: Rc<Started>) -> ElementId {
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
