//! Every request that the fleet sends, and every answer that the simulator gives, has the form that HubSpot's and
//! OpenAI's own OpenAPI files describe. Runs where those files are (`LEADLINE_SPECS`, or beside the checkout).

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use lab::FleetPlan;
use serde_json::{Value, json};
use simulator::{Call, Fault, FaultKind, Target};
use testbed::workspace;

use fixtures::{
    BUYER, approved_as, contact, ended, ended_as, fleet, happened, note_event, object, pipeline, send_accepted,
};

fn specs() -> Option<PathBuf> {
    let folder = std::env::var("LEADLINE_SPECS")
        .map_or_else(|_| workspace::root().expect("the workspace").join("../shared/reference/specs"), PathBuf::from);
    folder.is_dir().then_some(folder)
}

#[tokio::test]
async fn requests_and_answers_have_the_documented_form() {
    let Some(folder) = specs() else {
        eprintln!("no OpenAPI files here; not checked");
        return;
    };
    for (version, api) in [("v3", "chat_completions"), ("2026-09", "responses")] {
        let calls = calls_of_a_day(version, api).await;
        let specs = Specs::load(&folder, version);
        let mut checked: HashMap<String, usize> = HashMap::new();
        // The files do not describe the token's description and the rules on values.
        let described =
            |call: &&Call| !["/oauth/", "/crm/property-validations/"].iter().any(|path| call.path.starts_with(path));
        for call in calls.iter().filter(described) {
            let operation = specs.check(call);
            *checked.entry(operation).or_default() += 1;
        }
        let kinds: Vec<_> = checked.keys().map(String::as_str).collect();
        for needed in [
            "/batch/read",
            "/batch/update",
            "/batch/archive",
            "patch ",
            "/associations",
            "/properties",
            "/groups",
            "/pipelines",
            "/owners",
            "/search",
            "put ",
            "post /crm/v3/objects/tasks | post /crm/objects/2026-09/{objectType}",
            if api == "responses" { "/responses" } else { "/chat/completions" },
        ] {
            let needed: Vec<_> = needed.split(" | ").collect();
            let is_there = kinds.iter().any(|kind| needed.iter().any(|part| kind.contains(part)));
            assert!(is_there, "no call of {needed:?} among {kinds:?}");
        }
    }
}

/// A fleet that meets most of what HubSpot and OpenAI answer.
async fn calls_of_a_day(version: &str, api: &str) -> Vec<Call> {
    let arguments = vec!["--without-ai-properties".to_owned(), "--calls-per-10s".to_owned(), "1000".to_owned()];
    let plan = FleetPlan { simulator_arguments: arguments, ..pipeline() };
    let fleet = fleet(&plan.with("hubspot.api_version", version).with("openai.api", api)).await;
    let provision = fleet.leadline(&["playbook", "provision"]).await.expect("runs");
    assert!(provision.status.success(), "{}", String::from_utf8_lossy(&provision.stderr));
    for id in 1..=12 {
        contact(&fleet, id, &[BUYER]).await;
    }
    for (target, code) in [(Target::Hubspot, 429), (Target::Hubspot, 500), (Target::Openai, 429), (Target::Openai, 500)]
    {
        let kind = FaultKind::Status { code, retry_after: None };
        fleet.simulator.fault(&Fault::new(target, kind).times(1)).await.expect("set");
    }
    // Alone, many, without notes, and one that does not exist.
    send_accepted(&fleet, &[note_event(1, 1)]).await;
    ended(&fleet, &note_event(1, 1)).await;
    contact(&fleet, 13, &[]).await;
    let many: Vec<_> = (2..=14).map(|id| note_event(id, 1)).collect();
    send_accepted(&fleet, &many).await;
    for event in &many {
        ended(&fleet, event).await;
    }
    // What the model says beside answers.
    for (id, kind) in [(15, FaultKind::Refusal), (16, FaultKind::Length), (17, FaultKind::ContentFilter)] {
        contact(&fleet, id, &[BUYER]).await;
        fleet.simulator.fault(&Fault::new(Target::Openai, kind).times(1)).await.expect("set");
        send_accepted(&fleet, &[note_event(id, 1)]).await;
        ended(&fleet, &note_event(id, 1)).await;
    }
    // A ticket, a deal and a call, with tasks and a move.
    object(&fleet, "deal", 20, &[("dealstage", "contractsent"), ("pipeline", "default")], &[("contact", 1)]).await;
    object(&fleet, "company", 25, &[("name", "Marsh")], &[("contact", 1)]).await;
    object(&fleet, "ticket", 30, &[("content", "Furious. We want a refund.")], &[("contact", 1)]).await;
    let mail = [("hs_email_text", "Unacceptable."), ("hs_timestamp", "2026-11-20T10:00:00Z")];
    object(&fleet, "email", 60, &mail, &[("ticket", 30)]).await;
    object(&fleet, "call", 40, &[("hs_call_body", "We will send it.")], &[("contact", 1), ("deal", 20)]).await;
    let others = [happened("ticket", 30, "creation", None, 1), happened("call", 40, "creation", None, 1)];
    send_accepted(&fleet, &others).await;
    approved_as(&fleet, &others[0], "churn-risk", ("written", None)).await;
    ended_as(&fleet, &others[1], "written", None).await;
    let undone = fleet.leadline(&["undo", "--playbook", "churn-risk", "--yes"]).await.expect("runs");
    assert!(undone.status.success(), "{}", String::from_utf8_lossy(&undone.stderr));
    by_hand(&fleet, version).await;
    let check = fleet.leadline(&["check"]).await.expect("runs");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    fleet.simulator.calls(0).await.expect("asked")
}

/// What the simulator offers and the fleet does not (yet) call.
async fn by_hand(fleet: &lab::Fleet, version: &str) {
    let known = simulator::Config::default();
    let base = lab::fleet::variable("hubspot.base_url");
    let base = fleet.operator_environment().iter().find(|(name, _)| *name == base).expect("set").1.clone();
    let (objects, owners, associations) = match version {
        "v3" => ("/crm/v3/objects", "/crm/v3/owners", "/crm/v4/objects"),
        _ => ("/crm/objects/2026-09", "/crm/owners/2026-09", "/crm/objects/2026-09"),
    };
    let search = json!({"filterGroups": [{"filters": [{"propertyName": "company", "operator": "EQ", "value": "Marsh"}]}],
        "sorts": ["createdate"], "properties": ["firstname"], "limit": 5, "after": ""});
    fleet.simulator.complete_search_index().await.expect("indexed");
    let call = |method: &str, path: String, body: Option<&Value>| {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let request = reqwest::Client::new().request(method, format!("{base}{path}")).bearer_auth(&known.token);
        let request = if let Some(body) = body { request.json(body) } else { request };
        async move { request.send().await.expect("answered").json::<Value>().await.expect("JSON") }
    };
    let found = call("POST", format!("{objects}/contacts/search"), Some(&search)).await;
    assert_eq!((found["total"].as_i64(), found["results"].as_array().map(Vec::len)), (Some(16), Some(5)), "{found}");
    assert_eq!(found["paging"]["next"]["after"], "5");
    assert_eq!(call("GET", owners.to_owned(), None).await["results"].as_array().map(Vec::len), Some(3));
    // The fleet updates one record as a batch of one.
    let change = json!({"properties": {"firstname": "Ada"}});
    let updated = call("PATCH", format!("{objects}/contacts/1"), Some(&change)).await;
    assert_eq!(updated["id"], "1", "{updated}");
    let associated = call("PUT", format!("{associations}/deals/20/associations/default/companies/25"), None).await;
    assert_eq!(associated["status"], "COMPLETE", "{associated}");
    if version == "v3" {
        let listed = call("GET", "/crm/v4/objects/deals/20/associations/companies".to_owned(), None).await;
        assert_eq!(listed["results"][0]["toObjectId"], "25", "{listed}");
    }
}

struct Specs(Vec<Value>);

impl Specs {
    fn load(folder: &Path, version: &str) -> Self {
        let files = [
            format!("hubspot/{version}/contacts"),
            format!("hubspot/{version}/notes"),
            format!("hubspot/{version}/tasks"),
            format!("hubspot/{version}/emails"),
            format!("hubspot/{version}/calls"),
            format!("hubspot/{version}/meetings"),
            format!("hubspot/{version}/deals"),
            format!("hubspot/{version}/tickets"),
            format!("hubspot/{version}/companies"),
            format!("hubspot/{version}/pipelines"),
            format!("hubspot/{version}/crmOwners"),
            format!("hubspot/{version}/properties"),
            format!("hubspot/{version}/accountInfo"),
            // Associations have a version of their own.
            "hubspot/v4/associations".to_owned(),
            "hubspot/2026-09/associations".to_owned(),
            "openai/openai".to_owned(),
        ];
        let read = |file: String| {
            let text = std::fs::read_to_string(folder.join(format!("{file}.json"))).expect("readable");
            let mut spec: Value = serde_json::from_str(&text).expect("JSON");
            as_json_schema(&mut spec);
            spec
        };
        Self(files.into_iter().map(read).collect())
    }

    /// Checks one call and names its operation.
    fn check(&self, call: &Call) -> String {
        // HubSpot takes a type's name and its id alike; the file of deals has only the id.
        let path = call.path.strip_prefix("/v1").unwrap_or(&call.path).replace("/v3/objects/deals", "/v3/objects/0-3");
        let path = path.as_str();
        let candidates = self.0.iter().flat_map(|spec| {
            spec["paths"]
                .as_object()
                .expect("paths")
                .iter()
                .map(move |(template, operations)| (spec, template, operations))
        });
        let method = call.method.to_lowercase();
        let mut matching: Vec<_> = candidates
            .filter(|(_, template, operations)| fits(template, path) && !operations[&method].is_null())
            .collect();
        // The most literal template wins: `/batch/read` is no record's id.
        matching.sort_by_key(|(_, template, _)| template.matches('{').count());
        let (spec, template, operations) =
            matching.first().unwrap_or_else(|| panic!("no operation for {method} {path}"));
        let operation = &operations[&method];
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        if !body.is_null() {
            validate(spec, body, &call.request, &format!("request of {method} {template}"));
        }
        // The 2026-09 files leave 207 out where v3's and the documentation have it; its body is that of a 200 with errors.
        let statuses = [call.status.to_string(), if call.status == 207 { "200" } else { "default" }.to_owned()];
        let response =
            statuses.iter().map(|status| &operation["responses"][status]).find(|response| !response.is_null());
        let status = call.status;
        let schema = match response {
            _ if call.path.starts_with("/v1") && call.status >= 400 => {
                json!({"$ref": "#/components/schemas/ErrorResponse"})
            }
            _ if call.status >= 400 => json!({"$ref": "#/components/schemas/Error"}),
            Some(response) => response["content"]
                .as_object()
                .and_then(|c| c.values().next())
                .map_or(Value::Null, |c| c["schema"].clone()),
            None => panic!("{method} {template} does not document status {status}"),
        };
        if status == 204 {
            assert!(schema.is_null() && call.response.is_null(), "{method} {template}: {:#}", call.response);
            return format!("{method} {template}");
        }
        assert!(!schema.is_null(), "{method} {template} documents no body for {status}");
        validate(spec, &schema, &call.response, &format!("answer {status} of {method} {template}"));
        format!("{method} {template}")
    }
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(&path).all(|(t, p)| t.starts_with('{') || t == p)
}

fn validate(spec: &Value, schema: &Value, value: &Value, what: &str) {
    let mut root = schema.clone();
    root["components"] = spec["components"].clone();
    let validator = jsonschema::validator_for(&root).unwrap_or_else(|error| panic!("{what}: {error}"));
    let errors: Vec<_> =
        validator.iter_errors(value).map(|error| format!("{} at {}", error, error.instance_path())).collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}\n{value:#}");
}

/// OpenAPI's dialect as JSON schema: `nullable`, and HubSpot's property values, which its files call strings and its
/// documentation "strings or null".
fn as_json_schema(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.remove("example");
            object.remove("pattern");
            // The discriminator picks one of the schemas; without it, several fit: OpenAI's two messages differ in nothing else.
            if object.remove("discriminator").is_some()
                && let Some(schemas) = object.remove("oneOf")
            {
                object.insert("anyOf".to_owned(), schemas);
            }
            let nullable = object.remove("nullable") == Some(Value::Bool(true));
            object.values_mut().for_each(as_json_schema);
            if let Some(properties) = object.get_mut("properties").and_then(|p| p.get_mut("properties"))
                && properties["additionalProperties"]["type"] == "string"
            {
                properties["additionalProperties"]["type"] = json!(["string", "null"]);
            }
            if nullable && let Some(kind) = object.get("type").cloned() {
                object.insert("type".to_owned(), json!([kind, "null"]));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(as_json_schema),
        _ => {}
    }
}
