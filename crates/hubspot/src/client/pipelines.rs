//! Pipelines and their stages. The ids of stages are internal names, which differ from portal to portal.

use std::collections::HashMap;

use domain::ObjectType;
use serde::Deserialize;

use super::{
    error::HubSpotError,
    operation::Operation,
    transport::{Call, HubSpotClient},
};

/// A pipeline of the portal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pipeline {
    /// Its id, the value of a record's property `pipeline`.
    pub id: String,
    /// The label in HubSpot's pages.
    pub label: String,
    /// Its stages, in the order of the board.
    pub stages: Vec<PipelineStage>,
}

/// A stage of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PipelineStage {
    /// Its id, the value of a record's property `dealstage` or `hs_pipeline_stage`.
    pub id: String,
    /// The label in HubSpot's pages.
    pub label: String,
    #[serde(default)]
    metadata: HashMap<String, String>,
}

impl Pipeline {
    /// Whether this is its id or, ignoring case, its label.
    pub fn is_called(&self, label_or_id: &str) -> bool {
        self.id == label_or_id || self.label.eq_ignore_ascii_case(label_or_id)
    }

    /// The stage with this id or, ignoring case, this label.
    pub fn stage(&self, label_or_id: &str) -> Option<&PipelineStage> {
        let by_id = self.stages.iter().find(|stage| stage.id == label_or_id);
        by_id.or_else(|| self.stages.iter().find(|stage| stage.label.eq_ignore_ascii_case(label_or_id)))
    }
}

impl PipelineStage {
    /// Whether a deal in this stage is won or lost. The metadata has `isClosed` or, in older portals, only a
    /// probability, which is 0 or 1 for closed stages.
    pub fn is_closed(&self) -> bool {
        match self.metadata.get("isClosed") {
            Some(closed) => closed == "true",
            None => self
                .metadata
                .get("probability")
                .and_then(|p| p.parse::<f64>().ok())
                .is_some_and(|p| p <= 0.0 || p >= 1.0),
        }
    }
}

impl HubSpotClient {
    /// The pipelines of an object type.
    ///
    /// # Errors
    /// The call fails.
    pub async fn pipelines(&self, object_type: &ObjectType) -> Result<Vec<Pipeline>, HubSpotError> {
        #[derive(Deserialize)]
        struct Answer {
            results: Vec<Pipeline>,
        }
        let path = self.version().pipelines(object_type);
        let answer: Answer = self.call(&Call::get(Operation::ListPipelines, &path, &[])).await?;
        Ok(answer.results)
    }
}

#[cfg(test)]
mod tests {
    use super::Pipeline;

    #[test]
    fn stages_are_found_by_id_and_label_and_know_whether_they_are_closed() {
        let pipeline: Pipeline =
            serde_json::from_value(serde_json::json!({"id": "default", "label": "Sales", "stages": [
            {"id": "123", "label": "Risk", "metadata": {"isClosed": "false", "probability": "0.2"}},
            {"id": "won", "label": "Closed won", "metadata": {"probability": "1.0"}}]}))
            .expect("a pipeline");
        assert_eq!(pipeline.stage("risk").map(|stage| stage.id.as_str()), Some("123"));
        assert_eq!(pipeline.stage("won").map(super::PipelineStage::is_closed), Some(true));
        assert_eq!(pipeline.stage("123").map(super::PipelineStage::is_closed), Some(false));
        assert_eq!(pipeline.stage("nowhere"), None);
    }
}
