//! What holds for the text within each element, after all tags have been read.

use super::{
    elements::Category,
    hidden::{Look, OwnLook},
    tree::{ElementId, Node, Tree},
};

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
