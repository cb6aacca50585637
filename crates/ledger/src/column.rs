//! Columns that hold names of closed sets: how a name becomes a value of its set.

use domain::Reason;

use crate::LedgerError;

/// A column of a table or view, for the error about a name that is not in its set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    table: &'static str,
    name: &'static str,
}

pub(crate) const EVENT_STATE: Column = Column::new("event", "state");
pub(crate) const EVENT_REASON: Column = Column::new("event", "reason");
pub(crate) const COMMAND_STATE: Column = Column::new("write_command", "state");
pub(crate) const COMMAND_MODE: Column = Column::new("write_command", "mode");
pub(crate) const ACTION_STATE: Column = Column::new("action", "state");

impl Column {
    /// The column `name` of `table`.
    pub(crate) const fn new(table: &'static str, name: &'static str) -> Self {
        Self { table, name }
    }

    /// The member of a set with the name that the column holds.
    pub(crate) fn read<T>(self, value: &str, parse: fn(&str) -> Option<T>) -> Result<T, LedgerError> {
        parse(value).ok_or_else(|| LedgerError::Unreadable {
            table: self.table,
            column: self.name,
            value: value.to_owned(),
        })
    }

    /// The error about the column of the row with this id.
    pub(crate) fn unreadable(self, id: &str) -> LedgerError {
        LedgerError::Unreadable { table: self.table, column: self.name, value: format!("of {id}") }
    }

    /// The reason that the column holds, if it holds one.
    pub(crate) fn read_reason(self, value: Option<&str>) -> Result<Option<Reason>, LedgerError> {
        value.map(|value| self.read(value, Reason::parse)).transpose()
    }
}
