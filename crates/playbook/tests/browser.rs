//! What is read of HTML is what a browser shows of it: the reader, which builds no tree, against a tree builder.
//!
//! `cargo xtask fuzz` runs a million cases.
#![allow(clippy::expect_used, reason = "these are tests; their helpers too")]

use std::{borrow::Cow, cell::RefCell, collections::BTreeSet};

use html5ever::{
    Attribute, ExpandedName, ParseOpts, QualName,
    interface::{ElementFlags, NodeOrText, QuirksMode, TreeSink},
    parse_document,
    tendril::{StrTendril, TendrilSink},
    tree_builder::TreeBuilderOpts,
};
use playbook::{TextFormat, plain_text};
use proptest::prelude::*;

/// The tags of which documents are made. Each opens, opens hidden, or closes. `mi` and `title` are not among them: within
/// `<math>` and `<svg>` an end tag does not cross them by the standard, but does in this tree builder.
const NAMES: &[&str] = &[
    "p",
    "div",
    "span",
    "form",
    "ul",
    "li",
    "button",
    "table",
    "tr",
    "td",
    "svg",
    "select",
    "b",
    "section",
    "blockquote",
    "a",
    "i",
    "nobr",
    "tbody",
    "caption",
    "colgroup",
    "col",
    "th",
    "dl",
    "dd",
    "dt",
    "h1",
    "h2",
    "option",
    "optgroup",
    "object",
    "marquee",
    "ruby",
    "rt",
    "math",
    "g",
    "pre",
    "hr",
    "br",
    "img",
    "input",
    "address",
    "unknown",
    "font",
    "template",
    "ol",
    "textarea",
    "style",
    "head",
    "xmp",
    "summary",
    "center",
    "video",
    "iframe",
];

/// A word, white space, or a tag. Simple ones come most often, so that they meet.
fn token() -> impl Strategy<Value = String> {
    let name = prop_oneof![3 => prop::sample::select(&NAMES[..15]), 2 => prop::sample::select(NAMES)];
    let tag = (name, 0..8).prop_map(|(name, form)| match form {
        0..3 => format!("<{name}>"),
        3..5 => format!("<{name} style=display:none>"),
        _ => format!("</{name}>"),
    });
    prop_oneof![6 => tag, 3 => Just("WORD".to_owned()), 1 => Just(" ".to_owned())]
}

/// A document in which every word is another one.
fn document() -> impl Strategy<Value = String> {
    prop::collection::vec(token(), 1..24).prop_map(|tokens| {
        let named = |(at, token): (usize, String)| if token == "WORD" { format!("W{at}.") } else { token };
        tokens.into_iter().enumerate().map(named).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_word_that_a_browser_shows_is_read_and_no_other(html in document()) {
        same_words(&html);
    }
}

fn same_words(html: &str) {
    let words = |text: &str| -> BTreeSet<String> {
        text.split_inclusive('.')
            .map(|word| word.trim_start_matches(|c| c != 'W').to_owned())
            .filter(|w| w.len() > 1)
            .collect()
    };
    assert_eq!(words(&plain_text(html, TextFormat::Html)), words(&shown(html)), "{html}");
}

/// Trees that are easily taken for others.
#[test]
fn hiding_ends_with_its_element_and_with_nothing_else() {
    for html in [
        "<p style=display:none><svg></svg>W1.</p>W2.",
        "<p style=display:none><script></script>W1.</p>W2.",
        "<p style=display:none><style></style>W1.</p>W2.",
        "<p style=display:none><object></object>W1.</p>W2.",
        "<p style=display:none><video></video>W1.</p>W2.",
        "<p style=display:none><select></select>W1.</p>W2.",
        "<p style=display:none><button>W1.</button></p>W2.",
        "<p style=display:none><caption>W1.",
        "<p style=display:none>W1.<hr>W2.",
        "<p style=display:none>W1.<table></table>W2.",
        "<form><div style=display:none></form>W1.</div>W2.",
        "<ul><li><ul style=display:none></li>W1.</ul>W2.",
        "<ul><li><section style=display:none><li>W1.</section>W2.",
        "<ul><li><blockquote style=display:none><li>W1.</blockquote>W2.",
        "<ul><li><div style=display:none><li>W1.",
        "<p><b style=display:none>W1.<p>W2.</b>W3.",
        "<b style=display:none><div>W1.</b>W2.",
        "<form style=display:none><b><div></form>W1.</b>W2.</div>W3.",
        "<form style=display:none><div></form><b><p></b>W1.</div>W2.",
        "<table style=display:none>W1.<tr>W2.<td>W3.",
        "<div style=display:none><table>W1.</table>W2.</div>W3.",
        "<table><b style=display:none><tr><td>W1.</table>W2.",
        "<svg><p>W1.",
        "<svg>W1.<div>W2.",
        "<math><mi>W1.<p>W2.",
        "<svg><style><p>W1.</style>W2.",
        "<svg><title><p>W1.</title></svg>W2.",
        "<select><div style=display:none>W1.</select>W2.",
        "<template><table><td></template>W1.",
        "<a style=display:none>W1.<a>W2.",
        "<div><form style=display:none></div>W1.<form style=display:none>W2.</form>W3.",
        "W1.<body style=display:none>W2.",
    ] {
        same_words(html);
    }
}

/// The text of the nodes that are displayed.
fn shown(html: &str) -> String {
    // In an inline frame and within a page there is no quirks mode.
    let tree_builder = TreeBuilderOpts { iframe_srcdoc: true, ..TreeBuilderOpts::default() };
    let nodes = parse_document(Nodes::default(), ParseOpts { tree_builder, ..ParseOpts::default() }).one(html);
    let mut text = String::new();
    nodes.show(0, &mut text);
    text
}

/// The elements that browsers do not display, and those whose content is only shown where they cannot be.
const NOT_SHOWN: &[&str] = &[
    "head", "title", "style", "script", "template", "object", "video", "svg", "math", "iframe", "noembed", "noframes",
    "noscript",
];

#[derive(Default)]
struct Node {
    parent: usize,
    children: Vec<usize>,
    name: Option<QualName>,
    text: String,
    is_hidden: bool,
}

/// A tree whose first node is the document.
struct Nodes(RefCell<Vec<Node>>);

impl Default for Nodes {
    fn default() -> Self {
        Self(RefCell::new(vec![Node::default()]))
    }
}

impl Nodes {
    fn add(&self, node: Node) -> usize {
        let mut nodes = self.0.borrow_mut();
        nodes.push(node);
        nodes.len() - 1
    }

    fn node_of(&self, child: NodeOrText<usize>) -> usize {
        match child {
            NodeOrText::AppendNode(node) => node,
            NodeOrText::AppendText(text) => self.add(Node { text: text.to_string(), ..Node::default() }),
        }
    }

    fn insert(&self, parent: usize, at: Option<usize>, child: usize) {
        self.remove_from_parent(&child);
        let mut nodes = self.0.borrow_mut();
        nodes[child].parent = parent;
        let at = at.and_then(|before| nodes[parent].children.iter().position(|other| *other == before));
        let at = at.unwrap_or(nodes[parent].children.len());
        nodes[parent].children.insert(at, child);
    }

    fn show(&self, node: usize, text: &mut String) {
        let nodes = self.0.borrow();
        let node = &nodes[node];
        let is_shown = node.name.as_ref().is_none_or(|name| !NOT_SHOWN.contains(&&*name.local));
        if is_shown && !node.is_hidden {
            text.push_str(&node.text);
            node.children.iter().for_each(|child| self.show(*child, text));
        }
    }

    fn hides(attributes: &[Attribute]) -> bool {
        attributes.iter().any(|attribute| &*attribute.value == "display:none")
    }
}

impl TreeSink for Nodes {
    type Handle = usize;
    type Output = Self;
    type ElemName<'a> = ExpandedName<'a>;

    fn finish(self) -> Self {
        self
    }

    fn parse_error(&self, _: Cow<'static, str>) {}

    fn get_document(&self) -> usize {
        0
    }

    fn elem_name<'a>(&'a self, target: &'a usize) -> ExpandedName<'a> {
        let name = self.0.borrow()[*target].name.clone().expect("an element");
        // A name has to live as long as the tree; these are few.
        Box::leak(Box::new(name)).expanded()
    }

    fn create_element(&self, name: QualName, attributes: Vec<Attribute>, _: ElementFlags) -> usize {
        self.add(Node { name: Some(name), is_hidden: Self::hides(&attributes), ..Node::default() })
    }

    fn create_comment(&self, _: StrTendril) -> usize {
        self.add(Node::default())
    }

    fn create_pi(&self, _: StrTendril, _: StrTendril) -> usize {
        self.add(Node::default())
    }

    fn append(&self, parent: &usize, child: NodeOrText<usize>) {
        self.insert(*parent, None, self.node_of(child));
    }

    fn append_based_on_parent_node(&self, element: &usize, previous: &usize, child: NodeOrText<usize>) {
        let parent = self.0.borrow()[*element].parent;
        let has_parent = self.0.borrow()[parent].children.contains(element);
        if has_parent {
            self.insert(parent, Some(*element), self.node_of(child));
        } else {
            self.append(previous, child);
        }
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&self, target: &usize) -> usize {
        *target
    }

    fn same_node(&self, one: &usize, other: &usize) -> bool {
        one == other
    }

    fn set_quirks_mode(&self, _: QuirksMode) {}

    fn append_before_sibling(&self, sibling: &usize, child: NodeOrText<usize>) {
        let parent = self.0.borrow()[*sibling].parent;
        self.insert(parent, Some(*sibling), self.node_of(child));
    }

    fn add_attrs_if_missing(&self, target: &usize, attributes: Vec<Attribute>) {
        self.0.borrow_mut()[*target].is_hidden |= Self::hides(&attributes);
    }

    fn remove_from_parent(&self, target: &usize) {
        let mut nodes = self.0.borrow_mut();
        let parent = nodes[*target].parent;
        nodes[parent].children.retain(|child| child != target);
    }

    fn reparent_children(&self, node: &usize, new_parent: &usize) {
        let mut nodes = self.0.borrow_mut();
        let children = std::mem::take(&mut nodes[*node].children);
        for child in &children {
            nodes[*child].parent = *new_parent;
        }
        nodes[*new_parent].children.extend(children);
    }
}
