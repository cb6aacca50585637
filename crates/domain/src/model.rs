//! How a model is asked: through which API, in which service tier, for how many words.

use serde::{Deserialize, Serialize};

use crate::names::named_values;

/// The API of OpenAI, or of a compatible server, through which a model is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelApi {
    /// `POST /chat/completions`, which compatible servers know, too.
    #[default]
    ChatCompletions,
    /// `POST /responses`, through which every model calls functions with any effort.
    Responses,
}

/// The service tier that a request asks for (OpenAI's API reference, `service_tier`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestedTier {
    /// The one that OpenAI's project is set to. The parameter is left out, which means the same.
    Auto,
    /// The standard price and speed.
    #[default]
    Default,
    /// Cheaper and slower; refused with 429 while OpenAI has no room.
    Flex,
    /// Faster and dearer. OpenAI renamed it to fast mode on 2026-07-30, and takes both names.
    #[serde(alias = "fast")]
    Priority,
}

named_values!(RequestedTier {
    Auto => "auto",
    Default => "default",
    Flex => "flex",
    Priority => "priority",
});

impl RequestedTier {
    /// The tier that an answer counts as which names none, as those of compatible servers: the one that was asked for, but
    /// none that is cheaper than the standard.
    pub fn presumed(self) -> ServiceTier {
        match self {
            Self::Auto | Self::Default | Self::Flex => ServiceTier::Default,
            Self::Priority => ServiceTier::Priority,
        }
    }
}

/// The service tier in which a request was processed, as the answer says. It may be another one than was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceTier {
    /// At the standard price.
    Default,
    /// At the price of flex processing.
    Flex,
    /// With capacity that was bought in advance; counts at the standard price.
    Scale,
    /// At the price of priority processing, now fast mode.
    Priority,
}

named_values!(ServiceTier {
    Default => "default",
    Flex => "flex",
    Scale => "scale",
    Priority => "priority",
});

/// How many words the model makes (OpenAI's API reference, `verbosity`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verbosity {
    /// Few.
    Low,
    /// The default of the models that know the parameter.
    Medium,
    /// Many.
    High,
}

named_values!(Verbosity { Low => "low", Medium => "medium", High => "high" });
