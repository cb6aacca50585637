//! The declarations of a `style` attribute, split where a browser splits them.
//! Source: <https://www.w3.org/TR/css-syntax-3/>.

/// What stands for text that can be no part of a known name or value: a browser understands no declaration with it, either.
const UNKNOWN: char = '\u{fffd}';

/// A declaration in lower case.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Declaration {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) is_important: bool,
}

/// The declarations of a style, without comments and the content of strings, and with the letters that escapes stand for
/// (`\6e` is `n`).
pub(super) fn declarations(style: &str) -> Vec<Declaration> {
    let mut splitter = Splitter { rest: style, ..Splitter::default() };
    while splitter.step() {}
    splitter.end_declaration();
    splitter.declarations
}

#[derive(Default)]
struct Splitter<'a> {
    rest: &'a str,
    declaration: String,
    /// The characters that end the blocks which are open.
    closers: Vec<char>,
    declarations: Vec<Declaration>,
}

impl Splitter<'_> {
    /// Reads on; `false` at the end.
    fn step(&mut self) -> bool {
        let Some(character) = self.rest.chars().next() else { return false };
        if let Some(comment) = self.rest.strip_prefix("/*") {
            self.rest = comment.split_once("*/").map_or("", |(_, after)| after);
            self.declaration.push(' ');
            return true;
        }
        self.rest = &self.rest[character.len_utf8()..];
        match character {
            '\\' => self.escape(),
            '"' | '\'' => self.string(character),
            '(' => self.open_parenthesis(),
            '[' => self.open(character, ']'),
            '{' => self.open(character, '}'),
            ')' | ']' | '}' => self.close(character),
            ';' if self.closers.is_empty() => self.end_declaration(),
            _ => self.declaration.extend(character.to_lowercase()),
        }
        true
    }

    /// Only a letter or a hyphen is one in spite of its escape: an escaped digit is no part of a number.
    fn escape(&mut self) {
        let digits = self.rest.bytes().take(6).take_while(u8::is_ascii_hexdigit).count();
        let escaped = if digits == 0 {
            let escaped = self.rest.chars().next();
            self.rest = &self.rest[escaped.map_or(0, char::len_utf8)..];
            escaped
        } else {
            let escaped = u32::from_str_radix(&self.rest[..digits], 16).ok().and_then(char::from_u32);
            self.rest = &self.rest[digits..];
            self.rest = self.rest.strip_prefix("\r\n").unwrap_or(self.rest);
            self.rest = self.rest.strip_prefix([' ', '\t', '\n', '\r', '\u{c}']).unwrap_or(self.rest);
            escaped
        };
        let letter = escaped.filter(|escaped| escaped.is_ascii_alphabetic() || *escaped == '-');
        self.declaration.push(letter.map_or(UNKNOWN, |letter| letter.to_ascii_lowercase()));
    }

    /// A string ends at its quotation mark or, broken, at the end of the line.
    fn string(&mut self, mark: char) {
        self.declaration.push('"');
        let mut characters = self.rest.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => drop(characters.next()),
                '\n' => {
                    self.declaration.push(UNKNOWN);
                    self.rest = &self.rest[at..];
                    return;
                }
                _ if character == mark => {
                    self.rest = &self.rest[at + 1..];
                    return;
                }
                _ => {}
            }
        }
        self.rest = "";
    }

    /// An address without quotation marks ends at the next parenthesis, whatever is in it.
    fn open_parenthesis(&mut self) {
        let is_url = self.declaration.ends_with("url");
        self.declaration.push('(');
        if !is_url || self.rest.trim_start().starts_with(['"', '\'']) {
            return self.closers.push(')');
        }
        let mut characters = self.rest.char_indices();
        while let Some((at, character)) = characters.next() {
            if character == '\\' {
                characters.next();
            } else if character == ')' {
                self.declaration.push(')');
                self.rest = &self.rest[at + 1..];
                return;
            }
        }
        self.rest = "";
    }

    fn open(&mut self, opener: char, closer: char) {
        self.declaration.push(opener);
        self.closers.push(closer);
    }

    fn close(&mut self, closer: char) {
        if self.closers.last() != Some(&closer) {
            return self.declaration.push(UNKNOWN);
        }
        self.closers.pop();
        self.declaration.push(closer);
        // A block ends an at-rule, also without a semicolon.
        if self.closers.is_empty() && closer == '}' && self.declaration.trim_start().starts_with('@') {
            self.declaration.clear();
        }
    }

    fn end_declaration(&mut self) {
        let declaration = std::mem::take(&mut self.declaration);
        let Some((name, value)) = declaration.split_once(':') else { return };
        let (value, is_important) = match value.rsplit_once('!') {
            Some((value, mark)) if mark.trim() == "important" => (value, true),
            _ => (value, false),
        };
        self.declarations.push(Declaration {
            name: name.trim().to_owned(),
            value: value.split_ascii_whitespace().collect::<Vec<_>>().join(" "),
            is_important,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::declarations;

    fn read(style: &str) -> Vec<(String, String)> {
        declarations(style).into_iter().map(|declared| (declared.name, declared.value)).collect()
    }

    #[test]
    fn a_semicolon_in_a_string_an_address_or_a_block_ends_no_declaration() {
        for style in [
            "a:url(;b:c)",
            "a:url( ;b:c\\);d:e )",
            "a:url(\";)b:c\")",
            "a:';b:c'",
            "a:f(;b:c)",
            "a:[;b:c]",
            "a:{;b:c}",
            "a:\\;b:c",
            "a:/*;*/b",
            "a:url(;b:c",
            "a:\";b:c",
        ] {
            assert_eq!(read(style).len(), 1, "{style}: {:?}", read(style));
        }
        assert_eq!(read("a:'b\n;c:d")[1], ("c".to_owned(), "d".to_owned()), "a broken string ends with its line");
        assert_eq!(read("@a b{c:d}e:f"), [("e".to_owned(), "f".to_owned())]);
    }

    #[test]
    fn escapes_are_letters_and_never_digits() {
        assert_eq!(read("d\\69 splay : N\\6fne"), [("display".to_owned(), "none".to_owned())]);
        assert_eq!(read("a:\\31 0px"), [("a".to_owned(), "\u{fffd}0px".to_owned())]);
        assert_eq!(read("a:no/**/ne"), [("a".to_owned(), "no ne".to_owned())]);
    }
}
