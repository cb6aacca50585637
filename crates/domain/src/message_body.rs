//! The forms that bodies of messages have had.

use serde::{Serialize, de::DeserializeOwned};

use crate::{event::Event, write_command::CommandMessage};

/// The body of a message: JSON in a form that has a version, which the message names.
///
/// While a fleet is upgraded, programs of two versions read each other's messages. Each reads this version and the one before. What is
/// newer it leaves to others. Messages that name none are from before there were versions, and count as version 0.
/// `crates/maintenance/messages/` has messages of each version; a test holds form and version together.
pub trait MessageBody: Serialize + DeserializeOwned {
    /// The version that this program writes.
    const VERSION: u16;
}

/// 0 and 1: as it is now.
impl MessageBody for Event {
    const VERSION: u16 = 1;
}

/// 0: the whole write command, of which the id alone counts, or the id. 1: the id.
impl MessageBody for CommandMessage {
    const VERSION: u16 = 1;
}
