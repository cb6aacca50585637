//! How the commands print tables.

use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};

/// An empty table with this header.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(header.iter().copied());
    table
}

/// Prints a table under its title, or `none` when it has no row.
pub fn section(title: &str, table: &Table) {
    if table.is_empty() {
        println!("\n{title}: none");
    } else {
        println!("\n{title}\n{table}");
    }
}
