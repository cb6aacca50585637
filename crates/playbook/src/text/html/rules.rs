//! What start and end tags do in the body: which elements they end, and whether an element begins.

use super::{
    elements::Traits,
    tag::Tag,
    tree::{ElementId, Mode, Namespace, Open, PARAGRAPH_SCOPE, Started, Tree},
};

impl Tree {
    /// Reads a start tag. The id of the element of HTML that is open after it; `None`: there is none.
    pub(super) fn start(&mut self, tag: &Tag) -> Option<ElementId> {
        if self.is_foreign_to(&tag.name) {
            if !breaks_out(tag) {
                return self.start_foreign(tag);
            }
            self.leave_foreign();
        }
        if self.mode() == Mode::Body { self.start_in_body(tag) } else { self.start_in_table(tag) }
    }

    /// Reads an end tag.
    pub(super) fn end(&mut self, name: &[u8]) {
        if self.current().is_some_and(|open| open.namespace() != Namespace::Html) {
            if matches!(name, b"br" | b"p") {
                self.leave_foreign();
            } else if self.end_foreign(name) {
                return;
            }
        }
        if self.mode() == Mode::Body { self.end_in_body(name) } else { self.end_in_table(name) }
    }

    /// What the next text is inside of; `is_blank`: it is only white space.
    pub(super) fn text(&mut self, is_blank: bool) -> ElementId {
        const RAW: [&[u8]; 9] =
            [b"textarea", b"title", b"style", b"script", b"xmp", b"iframe", b"noembed", b"noframes", b"noscript"];
        let is_in_table = self.current().is_some_and(|open| open.has(Traits::FOSTERING));
        if self.is_current(&RAW) || self.is_foreign_to(b"") || is_blank && is_in_table {
            return self.place();
        }
        if self.mode() == Mode::ColumnGroup && !is_blank {
            self.close_context(true);
        }
        self.is_fostering = matches!(self.mode(), Mode::Table | Mode::TableBody | Mode::Row);
        self.reconstruct_formatting();
        let place = self.place();
        self.is_fostering = false;
        place
    }

    pub(super) fn start_in_body(&mut self, tag: &Tag) -> Option<ElementId> {
        match tag.name.as_slice() {
            b"html" | b"body" | b"head" | b"frame" | b"frameset" | b"caption" | b"col" | b"colgroup" | b"tbody"
            | b"td" | b"tfoot" | b"th" | b"thead" | b"tr" | b"base" | b"basefont" | b"bgsound" | b"link" | b"meta"
            | b"param" | b"source" | b"track" => return None,
            b"title" | b"style" | b"script" | b"noframes" | b"textarea" | b"iframe" | b"noembed" | b"noscript" => {}
            b"template" => self.push_marker(),
            b"address" | b"article" | b"aside" | b"blockquote" | b"center" | b"details" | b"dialog" | b"dir"
            | b"div" | b"dl" | b"fieldset" | b"figcaption" | b"figure" | b"footer" | b"header" | b"hgroup"
            | b"main" | b"menu" | b"nav" | b"ol" | b"p" | b"search" | b"section" | b"summary" | b"ul" | b"pre"
            | b"listing" | b"plaintext" | b"table" => self.close_paragraph(),
            b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" => {
                self.close_paragraph();
                if self.is_current(&HEADINGS) {
                    self.close_from(self.depth() - 1);
                }
            }
            b"form" => return self.start_form(tag),
            b"li" => self.close_item(&[b"li"]),
            b"dd" | b"dt" => self.close_item(&[b"dd", b"dt"]),
            b"hr" => {
                self.close_paragraph();
                if self.in_scope(b"select").is_some() {
                    self.close_implied_but(b"");
                }
                return None;
            }
            b"xmp" => {
                self.close_paragraph();
                self.reconstruct_formatting();
            }
            b"area" | b"br" | b"embed" | b"img" | b"image" | b"keygen" | b"wbr" => {
                self.reconstruct_formatting();
                return None;
            }
            b"a" | b"b" | b"big" | b"code" | b"em" | b"font" | b"i" | b"nobr" | b"s" | b"small" | b"strike"
            | b"strong" | b"tt" | b"u" => return Some(self.start_formatting(tag)),
            b"svg" => return self.start_root(tag, Namespace::Svg),
            b"math" => return self.start_root(tag, Namespace::MathMl),
            _ => return self.start_phrasing(tag),
        }
        Some(self.insert(Started::html(tag)))
    }

    /// Elements before which formatting begins again.
    fn start_phrasing(&mut self, tag: &Tag) -> Option<ElementId> {
        let is_in_select = self.in_scope(b"select");
        match (tag.name.as_slice(), is_in_select) {
            (b"button", _) => {
                if let Some(at) = self.in_scope(b"button") {
                    self.close_from(at);
                }
            }
            (b"select", Some(at)) => {
                self.close_from(at);
                return None;
            }
            (b"input", Some(at)) => self.close_from(at),
            (b"option", Some(_)) => self.close_implied_but(b"optgroup"),
            (b"optgroup", Some(_)) => self.close_implied_but(b""),
            (b"option" | b"optgroup", None) if self.is_current(&[b"option"]) => self.close_from(self.depth() - 1),
            (b"rb" | b"rtc" | b"rp" | b"rt", _) => {
                if self.in_scope(b"ruby").is_some() {
                    let is_inner = matches!(tag.name.as_slice(), b"rp" | b"rt");
                    self.close_implied_but(if is_inner { b"rtc" } else { b"" });
                }
                return Some(self.insert(Started::html(tag)));
            }
            _ => {}
        }
        self.reconstruct_formatting();
        if tag.name == b"input" {
            return None;
        }
        let id = self.insert(Started::html(tag));
        if matches!(tag.name.as_slice(), b"applet" | b"marquee" | b"object") {
            self.push_marker();
        }
        Some(id)
    }

    fn start_formatting(&mut self, tag: &Tag) -> ElementId {
        if tag.name == b"a"
            && let Some(id) = self.last_formatting(b"a")
        {
            self.end_formatting(b"a");
            self.forget_formatting(id);
            self.remove(id);
        }
        self.reconstruct_formatting();
        if tag.name == b"nobr" && self.in_scope(b"nobr").is_some() {
            self.end_formatting(b"nobr");
            self.reconstruct_formatting();
        }
        self.insert_formatting(tag)
    }

    fn start_form(&mut self, tag: &Tag) -> Option<ElementId> {
        let is_in_template = self.is_in_template();
        if self.form.is_some() && !is_in_template {
            return None;
        }
        self.close_paragraph();
        let id = self.insert(Started::html(tag));
        if !is_in_template {
            self.form = Some(id);
        }
        Some(id)
    }

    /// Ends the item before an item of a list, unless it is that of another list.
    fn close_item(&mut self, names: &[&[u8]]) {
        let passes = |open: &Open| !open.has(Traits::SPECIAL) || open.is_one_of(&[b"address", b"div", b"p"]);
        let found = self.innermost().find(|(_, open)| open.is_one_of(names) || !passes(open));
        if let Some(at) = found.filter(|(_, open)| open.is_one_of(names)).map(|(at, _)| at) {
            self.close_from(at);
        }
        self.close_paragraph();
    }

    pub(super) fn end_in_body(&mut self, name: &[u8]) {
        let scope = match name {
            // A browser goes on in the body after its end.
            b"html" | b"body" => return,
            b"br" => return self.reconstruct_formatting(),
            b"template" => return self.end_template(),
            b"form" => return self.end_form(),
            b"a" | b"b" | b"big" | b"code" | b"em" | b"font" | b"i" | b"nobr" | b"s" | b"small" | b"strike"
            | b"strong" | b"tt" | b"u" => return self.end_formatting(name),
            b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" => return self.end_heading(),
            b"p" => PARAGRAPH_SCOPE,
            b"li" => Traits::SCOPE.and(Traits::LIST_SCOPE),
            b"address" | b"article" | b"aside" | b"blockquote" | b"button" | b"center" | b"details" | b"dialog"
            | b"dir" | b"div" | b"dl" | b"fieldset" | b"figcaption" | b"figure" | b"footer" | b"header" | b"hgroup"
            | b"listing" | b"main" | b"menu" | b"nav" | b"ol" | b"pre" | b"search" | b"section" | b"select"
            | b"summary" | b"ul" | b"dd" | b"dt" | b"applet" | b"marquee" | b"object" => Traits::SCOPE,
            _ => Traits::SPECIAL,
        };
        if let Some(at) = self.in_scope_but(name, scope) {
            self.close_from(at);
            if matches!(name, b"applet" | b"marquee" | b"object") {
                self.clear_to_marker();
            }
        }
    }

    fn end_formatting(&mut self, name: &[u8]) {
        if !self.adopt(name)
            && let Some(at) = self.in_scope_but(name, Traits::SPECIAL)
        {
            self.close_from(at);
        }
    }

    fn end_heading(&mut self) {
        let found = self.innermost().find(|(_, open)| open.is_one_of(&HEADINGS) || open.has(Traits::SCOPE));
        if let Some(at) = found.filter(|(_, open)| open.is_one_of(&HEADINGS)).map(|(at, _)| at) {
            self.close_from(at);
        }
    }

    fn end_form(&mut self) {
        if self.is_in_template() {
            if let Some(at) = self.in_scope(b"form") {
                self.close_from(at);
            }
            return;
        }
        let Some(form) = self.form.take() else { return };
        let is_in_scope = {
            let found = self.innermost().find(|(_, open)| open.id == form || open.has(Traits::SCOPE));
            found.is_some_and(|(_, open)| open.id == form)
        };
        if is_in_scope {
            self.close_implied_but(b"");
            self.remove(form);
        }
    }

    pub(super) fn end_template(&mut self) {
        while self.is_in_template() {
            let is_template = self.innermost_context_is(b"template");
            self.close_context(true);
            if is_template {
                return self.clear_to_marker();
            }
        }
    }
}

const HEADINGS: [&[u8]; 6] = [b"h1", b"h2", b"h3", b"h4", b"h5", b"h6"];

/// Drawings and formulas, in which other rules hold.
impl Tree {
    /// Whether the start tag of this name belongs to SVG or MathML here; an empty name: whether text does.
    fn is_foreign_to(&self, name: &[u8]) -> bool {
        let Some(current) = self.current() else { return false };
        match current.namespace() {
            Namespace::Html => false,
            Namespace::MathMl if current.name() == b"annotation-xml" && name == b"svg" => false,
            Namespace::MathMl if current.name() != b"annotation-xml" && current.has(Traits::INTEGRATION) => {
                matches!(name, b"mglyph" | b"malignmark")
            }
            Namespace::MathMl | Namespace::Svg => !current.has(Traits::INTEGRATION),
        }
    }

    /// Whether what is read now is SVG or MathML, where CDATA sections are text.
    pub(super) fn is_in_foreign(&self) -> bool {
        self.current().is_some_and(|open| open.namespace() != Namespace::Html)
    }

    fn start_root(&mut self, tag: &Tag, namespace: Namespace) -> Option<ElementId> {
        self.reconstruct_formatting();
        if !tag.is_self_closing {
            self.insert(Started::foreign(tag, namespace));
        }
        None
    }

    fn start_foreign(&mut self, tag: &Tag) -> Option<ElementId> {
        if let (Some(current), false) = (self.current(), tag.is_self_closing) {
            let namespace = current.namespace();
            self.insert(Started::foreign(tag, namespace));
        }
        None
    }

    /// Ends drawings and formulas, up to where HTML may be.
    fn leave_foreign(&mut self) {
        let is_left = |open: &Open| open.namespace() != Namespace::Html && !open.has(Traits::INTEGRATION);
        while self.current().is_some_and(is_left) {
            self.close_from(self.depth() - 1);
        }
    }

    /// Ends the drawing's or formula's element of this name; `false`: the tag is one of HTML.
    fn end_foreign(&mut self, name: &[u8]) -> bool {
        let found = self.innermost().find(|(_, open)| open.namespace() == Namespace::Html || open.name() == name);
        match found.map(|(at, open)| (at, open.namespace())) {
            Some((_, Namespace::Html)) => return false,
            Some((at, _)) => self.close_from(at),
            None => {}
        }
        true
    }
}

/// Whether a start tag ends the drawing or formula in which it is.
fn breaks_out(tag: &Tag) -> bool {
    match tag.name.as_slice() {
        b"b" | b"big" | b"blockquote" | b"body" | b"br" | b"center" | b"code" | b"dd" | b"div" | b"dl" | b"dt"
        | b"em" | b"embed" | b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" | b"head" | b"hr" | b"i" | b"img"
        | b"li" | b"listing" | b"menu" | b"meta" | b"nobr" | b"ol" | b"p" | b"pre" | b"ruby" | b"s" | b"small"
        | b"span" | b"strong" | b"strike" | b"sub" | b"sup" | b"table" | b"tt" | b"u" | b"ul" | b"var" => true,
        b"font" => [b"color".as_slice(), b"face", b"size"].iter().any(|name| tag.get(name).is_some()),
        _ => false,
    }
}
