//! What start and end tags do in tables.

use super::{
    tag::Tag,
    tree::{ElementId, Mode, Started, Tree},
};

/// What begins a part of a table.
const PARTS: [&[u8]; 9] = [b"caption", b"col", b"colgroup", b"tbody", b"td", b"tfoot", b"th", b"thead", b"tr"];

impl Tree {
    pub(super) fn start_in_table(&mut self, tag: &Tag) -> Option<ElementId> {
        let name = tag.name.as_slice();
        // Each round ends one part of the table, or begins one that was left out.
        loop {
            let is_part = PARTS.contains(&name);
            match self.mode() {
                Mode::Cell | Mode::Caption if is_part => self.end_part(),
                Mode::Body | Mode::Cell | Mode::Caption => return self.start_in_body(tag),
                Mode::ColumnGroup if matches!(name, b"col" | b"html") => return None,
                Mode::ColumnGroup if name == b"template" => return self.start_in_body(tag),
                Mode::ColumnGroup => self.close_context(true),
                Mode::Row if matches!(name, b"td" | b"th") => return Some(self.begin_part(tag)),
                Mode::Row | Mode::TableBody if name == b"table" => self.end_table(),
                Mode::TableBody if name == b"tr" => return Some(self.begin_part(tag)),
                Mode::TableBody if matches!(name, b"td" | b"th") => drop(self.begin_part(&Tag::named(b"tr"))),
                Mode::Row | Mode::TableBody if is_part => self.close_context(true),
                Mode::Table if matches!(name, b"caption" | b"colgroup" | b"tbody" | b"tfoot" | b"thead") => {
                    return Some(self.begin_part(tag));
                }
                Mode::Table if name == b"col" => drop(self.begin_part(&Tag::named(b"colgroup"))),
                Mode::Table if is_part => drop(self.begin_part(&Tag::named(b"tbody"))),
                Mode::Table if name == b"table" => self.end_table(),
                Mode::Table | Mode::TableBody | Mode::Row => return self.start_among_parts(tag),
            }
        }
    }

    /// What is no part of a table stands before it.
    fn start_among_parts(&mut self, tag: &Tag) -> Option<ElementId> {
        match tag.name.as_slice() {
            b"style" | b"script" | b"template" => return self.start_in_body(tag),
            b"input" if tag.get(b"type").is_some_and(|kind| kind.eq_ignore_ascii_case("hidden")) => return None,
            b"form" => {
                if self.form.is_none() && !self.is_in_template() {
                    self.form = Some(self.insert_closed(Started::html(tag)));
                }
                return None;
            }
            _ => {}
        }
        self.is_fostering = true;
        let id = self.start_in_body(tag);
        self.is_fostering = false;
        id
    }

    /// Begins a part within the innermost one that is open.
    fn begin_part(&mut self, tag: &Tag) -> ElementId {
        self.close_context(false);
        if matches!(tag.name.as_slice(), b"caption" | b"td" | b"th") {
            self.push_marker();
        }
        self.insert(Started::html(tag))
    }

    /// Ends a cell or a caption.
    fn end_part(&mut self) {
        self.close_context(true);
        self.clear_to_marker();
    }

    /// Ends the innermost table, in which no cell and no caption is open.
    fn end_table(&mut self) {
        if let Some(at) = self.in_table_scope(b"table") {
            self.close_from(at);
        }
    }

    pub(super) fn end_in_table(&mut self, name: &[u8]) {
        // Each round ends one part of the table.
        loop {
            let is_open = self.in_table_scope(name).is_some();
            match (self.mode(), name) {
                (Mode::Cell, b"td" | b"th") | (Mode::Caption, b"caption") if is_open => return self.end_part(),
                (Mode::Cell, b"table" | b"tbody" | b"tfoot" | b"thead" | b"tr") | (Mode::Caption, b"table")
                    if is_open =>
                {
                    self.end_part();
                }
                (Mode::Row, b"tr") | (Mode::ColumnGroup, b"colgroup") => return self.close_context(true),
                (Mode::TableBody, b"tbody" | b"tfoot" | b"thead") if is_open => return self.close_context(true),
                (Mode::Row, b"tbody" | b"tfoot" | b"thead") if is_open => self.close_context(true),
                (Mode::Row | Mode::TableBody | Mode::Table, b"table") => return self.end_table(),
                // Where it has no meaning.
                (Mode::Cell, b"caption") => return,
                (mode, b"body" | b"col" | b"colgroup" | b"html") if mode != Mode::Body => return,
                (mode, b"caption" | b"tbody" | b"td" | b"tfoot" | b"th" | b"thead" | b"tr" | b"table")
                    if !matches!(mode, Mode::Body | Mode::ColumnGroup) =>
                {
                    return;
                }
                (_, b"template") => return self.end_template(),
                (Mode::ColumnGroup, _) => self.close_context(true),
                (Mode::Body | Mode::Cell | Mode::Caption, _) => return self.end_in_body(name),
                (Mode::Table | Mode::TableBody | Mode::Row, _) => {
                    self.is_fostering = true;
                    self.end_in_body(name);
                    self.is_fostering = false;
                    return;
                }
            }
        }
    }
}
