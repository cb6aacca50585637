//! Tables: plain aligned columns, without rules between the rows.

use serde_json::{Map, Value};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{
    Format,
    cell::Cell,
    put,
    terminal::Terminal,
    visible::{visible, visible_json},
};

/// What stands between two columns.
const GAP: &str = "  ";

/// A column is never cut to less than this.
const NARROWEST: usize = 8;

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    title: String,
    key: String,
    is_whole: bool,
}

/// A column with this title, and under this name in JSON.
pub fn column(title: &str, key: &str) -> Column {
    Column { title: title.to_ascii_uppercase(), key: key.to_owned(), is_whole: false }
}

impl Column {
    /// A column with a title that is a name from elsewhere, for a table that is not printed as JSON.
    pub fn named(title: &str) -> Self {
        Self { title: title.to_owned(), key: title.to_owned(), is_whole: false }
    }

    /// Never cut: a key or an id, which is good for nothing if it is not whole.
    pub fn whole(self) -> Self {
        Self { is_whole: true, ..self }
    }
}

/// How a column is laid out.
#[derive(Debug, Clone, Copy)]
struct Layout {
    width: usize,
    /// Whether it holds quantities, which end at the right.
    is_quantity: bool,
}

/// Rows of cells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these columns and no rows.
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn add(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows.
    pub fn rows(&self) -> &[Vec<Cell>] {
        &self.rows
    }

    /// The titles of the columns.
    pub fn titles(&self) -> impl Iterator<Item = String> {
        self.columns.iter().map(|column| visible(&column.title))
    }

    /// An object for each row, by the names of the columns.
    pub fn json(&self) -> Value {
        self.rows.iter().map(|row| self.json_row(row)).collect()
    }

    fn json_row(&self, row: &[Cell]) -> Value {
        let members = self.columns.iter().zip(row).map(|(column, cell)| (column.key.clone(), cell.json()));
        Value::Object(members.collect::<Map<_, _>>())
    }

    /// The table as text, each row a line. On a terminal that is too narrow the longest texts are cut; elsewhere all is whole.
    pub fn text(&self, format: Format, terminal: Terminal) -> String {
        let shown = self.shown(format);
        let layout = self.layout(&shown, terminal.width);
        self.title_line(&layout, terminal) + &self.lines(&shown, &layout, terminal)
    }

    fn shown(&self, format: Format) -> Vec<Vec<String>> {
        self.rows.iter().map(|row| row.iter().map(|cell| cell.text(format)).collect()).collect()
    }

    fn title_line(&self, layout: &[Layout], terminal: Terminal) -> String {
        line(self.titles().zip(layout).map(|(title, column)| terminal.title(&fit(&title, *column))))
    }

    fn lines(&self, shown: &[Vec<String>], layout: &[Layout], terminal: Terminal) -> String {
        let as_line = |(texts, row): (&Vec<String>, &Vec<Cell>)| {
            line(texts.iter().zip(row).zip(layout).map(|((text, cell), column)| {
                let text = fit(text, *column);
                cell.tone().map_or_else(|| text.clone(), |tone| terminal.paint(&text, tone))
            }))
        };
        shown.iter().zip(&self.rows).map(as_line).collect()
    }

    /// Whether a column holds quantities.
    pub fn is_quantity(&self, index: usize) -> bool {
        self.rows.iter().any(|row| row.get(index).is_some_and(Cell::is_quantity))
    }

    /// The table as text, as a pipe gets it.
    #[cfg(test)]
    pub fn whole_text(&self) -> String {
        self.text(Format::default(), Terminal::default())
    }

    /// How the columns are laid out. It is found out once for all rows, of which there may be many.
    fn layout(&self, shown: &[Vec<String>], room: Option<usize>) -> Vec<Layout> {
        let widths = self.widths(shown, room).into_iter().enumerate();
        widths.map(|(index, width)| Layout { width, is_quantity: self.is_quantity(index) }).collect()
    }

    /// How wide the columns are: as their widest cells, or so that all fit into `room` columns, if they can.
    fn widths(&self, shown: &[Vec<String>], room: Option<usize>) -> Vec<usize> {
        let widest = |(index, title): (usize, String)| {
            let cells = shown.iter().filter_map(|row| row.get(index)).map(|cell| cell.width());
            cells.chain([title.width()]).max().unwrap_or(0)
        };
        let mut widths: Vec<_> = self.titles().enumerate().map(widest).collect();
        let Some(room) = room else { return widths };
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > room {
            let may_give = |index: &usize| !self.columns[*index].is_whole && widths[*index] > NARROWEST;
            let Some(widest) = (0..widths.len()).filter(may_give).max_by_key(|index| widths[*index]) else { break };
            widths[widest] -= 1;
        }
        widths
    }
}

/// A table that goes on: titles once, and columns that only become wider.
#[derive(Debug)]
pub struct Stream {
    format: Format,
    terminal: Terminal,
    widths: Option<Vec<usize>>,
}

impl Stream {
    /// A table that has nothing yet.
    pub fn new(format: Format) -> Self {
        Self { format, terminal: Terminal::of_stdout(), widths: None }
    }

    /// The next rows as they are to be printed: lines of text, or a line of JSON for each.
    ///
    /// # Errors
    /// A row cannot be serialized.
    pub fn next(&mut self, rows: &Table) -> serde_json::Result<String> {
        if self.format.json {
            let json = |row: &Vec<Cell>| Ok(visible_json(&serde_json::to_string(&rows.json_row(row))?) + "\n");
            return rows.rows.iter().map(json).collect();
        }
        let shown = rows.shown(self.format);
        let mut layout = rows.layout(&shown, self.terminal.width);
        let titles = if let Some(before) = &self.widths {
            layout.iter_mut().zip(before).for_each(|(column, before)| column.width = column.width.max(*before));
            String::new()
        } else {
            rows.title_line(&layout, self.terminal)
        };
        let lines = rows.lines(&shown, &layout, self.terminal);
        self.widths = Some(layout.iter().map(|column| column.width).collect());
        Ok(titles + &lines)
    }

    /// Prints the next rows.
    ///
    /// # Errors
    /// A row cannot be serialized.
    pub fn print(&mut self, rows: &Table) -> serde_json::Result<()> {
        let next = self.next(rows)?;
        if !next.is_empty() {
            put(&next);
        }
        Ok(())
    }
}

fn line(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned() + "\n"
}

/// The text as wide as its column: filled up, or cut.
fn fit(text: &str, Layout { width, is_quantity }: Layout) -> String {
    let taken = text.width();
    if taken > width {
        return cut(text, width);
    }
    let fill = " ".repeat(width - taken);
    if is_quantity { fill + text } else { text.to_owned() + &fill }
}

/// The beginning of a text that is too wide, with a sign that it goes on.
fn cut(text: &str, width: usize) -> String {
    let mut taken = 1;
    let fits = |character: &char| {
        taken += character.width().unwrap_or(0);
        taken <= width
    };
    let mut kept: String = text.chars().take_while(fits).collect();
    kept.push('…');
    let fill = width.saturating_sub(kept.width());
    kept + &" ".repeat(fill)
}

#[cfg(test)]
mod tests {
    use domain::EventState;
    use serde_json::json;

    use super::{Column, Stream, Table, column};
    use crate::print::{Format, terminal::Terminal};

    fn table() -> Table {
        let mut table = Table::new([
            column("state", "state"),
            column("events", "events"),
            column("key of the oldest", "oldest_key"),
        ]);
        table.add([EventState::Parked.into(), 7_i64.into(), "9876543:contact".into()]);
        table.add([EventState::Written.into(), 1_234_i64.into(), "größer, 日本".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_without_rules_and_whole_where_no_terminal_is() {
        let text = table().whole_text();
        assert_eq!(
            text,
            "STATE    EVENTS  KEY OF THE OLDEST\n\
             parked        7  9876543:contact\n\
             written    1234  größer, 日本\n"
        );
    }

    #[test]
    fn a_terminal_gets_lines_that_fit_and_keys_that_are_whole() {
        let mut table = Table::new([column("detail", "detail"), column("key", "key").whole()]);
        table.add(["the model declined to answer 日本日本日本".into(), "9876543:contact.propertyChange".into()]);
        let text = table.text(Format::default(), Terminal { width: Some(50), has_colours: false });
        assert_eq!(text.lines().nth(1), Some("the model decline…  9876543:contact.propertyChange"));
        let text = table.text(Format::default(), Terminal { width: Some(60), has_colours: false });
        assert!(text.contains("the model declined to answe…  9876543"), "{text}");
        // Too narrow for all of it: the key stays whole, and the terminal wraps it.
        let text = table.text(Format::default(), Terminal { width: Some(20), has_colours: false });
        assert_eq!(text.lines().nth(1), Some("the mod…  9876543:contact.propertyChange"));
    }

    #[test]
    fn only_a_terminal_gets_colours() {
        let plain = table().whole_text();
        assert!(!plain.contains('\u{1b}'), "{plain:?}");
        let coloured = table().text(Format::default(), Terminal { width: None, has_colours: true });
        assert!(coloured.contains("\u{1b}[31mparked \u{1b}[0m"), "{coloured:?}");
    }

    #[test]
    fn a_cell_is_one_line_and_has_no_control_characters() {
        let mut table = Table::new(["property", "after\u{1b}"].map(Column::named));
        table.add(["firstname".into(), "\u{1b}[2J\nlastname   Smith".into()]);
        let printed = table.whole_text();
        assert!(printed.contains("\\u{1b}[2J\\nlastname"), "{printed}");
        assert!(printed.chars().all(|character| character == '\n' || !character.is_control()), "{printed:?}");
    }

    #[test]
    fn a_table_that_goes_on_has_its_titles_once_and_stays_aligned() {
        let mut stream = Stream { format: Format::default(), terminal: Terminal::default(), widths: None };
        let first = stream.next(&table()).expect("text");
        assert_eq!(first.lines().count(), 3);
        let mut more = Table::new(table().columns);
        more.add([EventState::Parked.into(), 5_i64.into(), "1".into()]);
        assert_eq!(stream.next(&more).expect("text"), "parked        5  1\n");
        let mut lines = Stream { format: Format { json: true, utc: true }, ..stream };
        let json = lines.next(&table()).expect("JSON");
        assert_eq!(json.lines().count(), 2, "{json}");
        assert!(json.starts_with(r#"{"state":"parked","events":7"#), "{json}");
    }

    #[test]
    fn json_has_an_object_for_each_row_by_the_names_of_the_columns() {
        assert_eq!(table().json()[0], json!({"state": "parked", "events": 7, "oldest_key": "9876543:contact"}));
    }
}
