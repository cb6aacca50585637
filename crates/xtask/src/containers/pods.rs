//! The pods of `deploy/kubernetes`, each container started as its manifest says: command, environment, files, user,
//! capabilities, read-only root and memory limit. They have real RabbitMQ and Postgres, each with the user of its program, and the
//! simulator; what differs from a cluster is in [`ELSEWHERE`].

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::{Role, Services, TestNamespace, step, workspace};

use super::{FLEET, SIMULATOR, container::Container, docker};
use crate::manifests::{OVERLAYS, Rendered, Tools, list, object, text};

/// The simulator instead of HubSpot and OpenAI, over plain text, as RabbitMQ and Postgres are.
const ELSEWHERE: [(&str, &str); 8] = [
    ("LEADLINE__BROKER__ALLOW_PLAINTEXT", "true"),
    ("LEADLINE__LEDGER__ALLOW_PLAINTEXT", "true"),
    ("LEADLINE__HUBSPOT__BASE_URL", "http://simulator:8090"),
    ("LEADLINE__HUBSPOT__ALLOW_PLAINTEXT", "true"),
    ("LEADLINE__OPENAI__BASE_URL", "http://simulator:8090/v1"),
    ("LEADLINE__OPENAI__ALLOW_PLAINTEXT", "true"),
    ("LEADLINE__WRITER__ALLOW_PLAINTEXT", "true"),
    ("LEADLINE__INFERENCE__ASSOCIATION_WAIT_SECONDS", "15"),
];

/// A file of the authorities that a pod trusts, which an operator makes (components/own-ca).
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What is not as it should be in any overlay.
pub(super) async fn findings() -> Result<Vec<String>> {
    let tools = Tools::install().await?;
    let kubernetes = workspace::root()?.join("deploy/kubernetes");
    let mut findings = Vec::new();
    for overlay in OVERLAYS {
        let rendered = tools.render(&kubernetes, overlay).await?;
        let found = run_overlay(overlay, &rendered).await.with_context(|| overlay.to_owned())?;
        findings.extend(found.into_iter().map(|finding| format!("{overlay}: {finding}")));
    }
    Ok(findings)
}

async fn run_overlay(overlay: &str, rendered: &Rendered) -> Result<Vec<String>> {
    let services = Services::containers().await?;
    let namespace = TestNamespace::new(&services).await?;
    let network = services.network().context("the services are in containers")?;
    let surroundings = Surroundings::new(overlay, rendered, &namespace, network)?;
    let simulator = surroundings.simulator().await?;

    let of_kind = |kind: &'static str| rendered.resources.iter().filter(move |resource| resource["kind"] == kind);
    for job in of_kind("Job") {
        let pod = Pod::of(job)?;
        let container = surroundings.start(&pod).await?;
        let code = container.ended().await?;
        ensure!(code == 0, "{} ended with {code}:\n{}", pod.name, container.log().await);
        println!("{overlay}: {} has done its work", pod.name);
    }
    let mut running = Vec::new();
    for deployment in of_kind("Deployment") {
        let pod = Pod::of(deployment)?;
        let container = surroundings.start(&pod).await?;
        running.push((pod, container));
    }
    for (pod, container) in &running {
        pod.until_ready(container).await?;
        println!("{overlay}: {} is ready, memory {}", pod.name, container.memory().await?);
    }
    step(&format!("{overlay}: the demo's webhooks through the pods"), surroundings.demo()).await?;
    let mut findings = Vec::new();
    for (pod, container) in &running {
        let memory = container.memory().await?;
        let (took, code) = container.stop(pod.grace()).await?;
        println!("{overlay}: {} held {memory} and ended after {:.1} s", pod.name, took.as_secs_f64());
        if code != 0 {
            findings.push(format!("{} ended with {code}:\n{}", pod.name, container.log().await));
        }
    }
    drop(simulator);
    Ok(findings)
}

/// What the pods have around them: services, and the secrets and settings as files.
struct Surroundings<'a> {
    rendered: &'a Rendered,
    network: String,
    /// The values of the secret `leadline`.
    secrets: BTreeMap<String, String>,
    ledger_url: String,
    folder: PathBuf,
}

impl<'a> Surroundings<'a> {
    fn new(overlay: &str, rendered: &'a Rendered, namespace: &TestNamespace, network: String) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("leadline-pods-{}-{overlay}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let (amqp, postgres) =
            (inside(&namespace.amqp_url, "rabbitmq:5672"), inside(&namespace.postgres_url, "postgres:5432"));
        let postgres = format!("{postgres}?sslmode=disable");
        let mut secrets = BTreeMap::from(
            [
                ("hubspot-token", "pat-na1-simulator"),
                ("hubspot-client-secret", "simulator-client-secret"),
                ("openai-api-key", "sk-simulator"),
                ("notify-sales", "http://simulator:8090/_simulator/channels/sales"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        for (role, name) in [
            (Role::Owner, "owner"),
            (Role::Receiver, "receiver"),
            (Role::Inference, "inference"),
            (Role::Writer, "writer"),
        ] {
            secrets.insert(format!("broker-url-{name}"), role.url(&amqp)?);
            secrets.insert(format!("ledger-url-{name}"), role.url(&postgres)?);
        }
        Ok(Self { rendered, network, secrets, ledger_url: postgres, folder })
    }

    /// A setting of the manifests' ConfigMap.
    fn setting(&self, name: &str) -> &str {
        let of_map = |map: &'a Value| map["data"][name].as_str();
        let mut maps = self.rendered.resources.iter().filter(|resource| resource["kind"] == "ConfigMap");
        maps.find_map(of_map).unwrap_or_default()
    }

    async fn simulator(&self) -> Result<Container> {
        let public_url = self.setting("LEADLINE__RECEIVER__PUBLIC_URL");
        let arguments = [
            "--network".to_owned(),
            self.network.clone(),
            "--network-alias=simulator".to_owned(),
            "--read-only".to_owned(),
            SIMULATOR.to_owned(),
            "leadline-simulator".to_owned(),
            "--listen=0.0.0.0:8090".to_owned(),
            "--webhook-url=http://leadline-receiver:8080/webhooks/hubspot".to_owned(),
            format!("--public-url={public_url}"),
        ];
        Container::start("simulator", &arguments).await
    }

    /// Starts the container of a pod.
    async fn start(&self, pod: &Pod<'a>) -> Result<Container> {
        let mut arguments = vec![
            "--network".to_owned(),
            self.network.clone(),
            format!("--network-alias={}", pod.name),
            format!(
                "--user={}:{}",
                pod.spec["securityContext"]["runAsUser"], pod.spec["securityContext"]["runAsGroup"]
            ),
            format!("--memory={}", memory_limit(&pod.container["resources"]["limits"]["memory"])?),
        ];
        let security = &pod.container["securityContext"];
        arguments.extend((security["readOnlyRootFilesystem"] == true).then(|| "--read-only".to_owned()));
        arguments.extend(
            (security["allowPrivilegeEscalation"] == false).then(|| "--security-opt=no-new-privileges:true".to_owned()),
        );
        arguments.extend(list(&security["capabilities"]["drop"]).map(|name| format!("--cap-drop={}", text(name))));
        arguments.extend(
            list(&pod.container["ports"]).map(|port| format!("--publish=127.0.0.1::{}", port["containerPort"])),
        );
        ensure!(
            list(&pod.container["env"]).all(|entry| entry["value"].is_string()),
            "{}: a variable without a value is not known here",
            pod.name
        );
        for (name, value) in self.environment(pod) {
            arguments.push(format!("--env={name}={value}"));
        }
        for (folder, path) in self.mounts(pod)? {
            arguments.push(format!("--volume={}:{path}:ro", folder.display()));
        }
        let command: Vec<_> = list(&pod.container["command"]).map(text).collect();
        let (program, rest) = command.split_first().context("the container has no command")?;
        arguments.push(format!("--entrypoint={program}"));
        arguments.push(FLEET.to_owned());
        arguments.extend(rest.iter().map(|part| (*part).to_owned()));
        Container::start(pod.name, &arguments).await
    }

    /// The container's variables: those of ConfigMaps, then its own, then what differs here.
    fn environment(&self, pod: &Pod<'a>) -> BTreeMap<&'a str, &'a str> {
        let mut environment = BTreeMap::new();
        for source in list(&pod.container["envFrom"]) {
            let data = self.config_map(text(&source["configMapRef"]["name"]));
            environment.extend(data.map(|(name, value)| (name.as_str(), text(value))));
        }
        environment.extend(list(&pod.container["env"]).map(|entry| (text(&entry["name"]), text(&entry["value"]))));
        environment.extend(ELSEWHERE);
        environment
    }

    fn config_map(&self, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        let maps = self.rendered.resources.iter().filter(|resource| resource["kind"] == "ConfigMap");
        let named = maps.into_iter().find(|map| map["metadata"]["name"] == name);
        named.into_iter().flat_map(|map| object(&map["data"]))
    }

    /// Folders with the files of the pod's volumes, and where the container has them.
    fn mounts(&self, pod: &Pod<'a>) -> Result<Vec<(PathBuf, &'a str)>> {
        let mut mounts = Vec::new();
        for mount in list(&pod.container["volumeMounts"]) {
            let volume = list(&pod.spec["volumes"]).find(|volume| volume["name"] == mount["name"]);
            let volume = volume.with_context(|| format!("{} has no volume {}", pod.name, mount["name"]))?;
            let folder = self.folder.join(pod.name).join(text(&mount["name"]));
            fs::create_dir_all(&folder)?;
            for item in list(&volume["secret"]["items"]) {
                let key = text(&item["key"]);
                let value = self.secrets.get(key).with_context(|| format!("the secret has no {key}"))?;
                write_for(pod, &folder.join(text(&item["path"])), value, 0o440)?;
            }
            if let Some(name) = volume["configMap"]["name"].as_str() {
                for (file, content) in self.config_map(name) {
                    write_for(pod, &folder.join(file), text(content), 0o444)?;
                }
                if name == "leadline-ca" {
                    write_for(pod, &folder.join("bundle.pem"), &fs::read_to_string(AUTHORITIES)?, 0o444)?;
                }
            }
            mounts.push((folder, text(&mount["mountPath"])));
        }
        Ok(mounts)
    }

    /// Sends the demo's webhooks, and fails when an outcome is not as expected.
    async fn demo(&self) -> Result<()> {
        let ledger = format!("LEADLINE__LEDGER__URL={}", self.ledger_url);
        let running = ["leadline-lab", "demo", "--running", "http://simulator:8090"];
        let container = ["run", "--rm", "--network", &self.network, "--env", &ledger];
        let plaintext = ["--env", "LEADLINE__LEDGER__ALLOW_PLAINTEXT=true", SIMULATOR];
        docker(&[&container[..], &plaintext, &running].concat()).await.map(drop)
    }
}

impl Drop for Surroundings<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A pod of one container, as it is rendered.
struct Pod<'a> {
    name: &'a str,
    spec: &'a Value,
    container: &'a Value,
}

impl<'a> Pod<'a> {
    fn of(resource: &'a Value) -> Result<Self> {
        let spec = &resource["spec"]["template"]["spec"];
        let name = text(&resource["metadata"]["name"]);
        let container = spec["containers"].get(0).with_context(|| format!("{name} has no container"))?;
        Ok(Self { name, spec, container })
    }

    /// Waits for its probes as Kubernetes does. Each asks a port by name, which the container opens.
    async fn until_ready(&self, container: &Container) -> Result<()> {
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let asked = &self.container[probe]["httpGet"];
            let port = list(&self.container["ports"]).find(|port| port["name"] == asked["port"]);
            let port = port.and_then(|port| port["containerPort"].as_i64());
            let port = port.with_context(|| format!("{}: {probe} asks a port that it does not name", self.name))?;
            container.answers(port, text(&asked["path"]), self.startup()).await?;
        }
        for port in list(&self.container["ports"]).filter(|port| port["name"] == "public") {
            container.answers(port["containerPort"].as_i64().unwrap_or_default(), "/healthz", self.startup()).await?;
        }
        Ok(())
    }

    /// How long its start may take.
    fn startup(&self) -> Duration {
        let probe = &self.container["startupProbe"];
        let number = |name: &str| probe[name].as_u64().unwrap_or(1);
        Duration::from_secs(number("periodSeconds") * number("failureThreshold"))
    }

    /// How many seconds it has to stop.
    fn grace(&self) -> u64 {
        self.spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(30)
    }
}

/// Writes a file that the pod's group can read, as Kubernetes does with `fsGroup`.
fn write_for(pod: &Pod<'_>, file: &Path, content: &str, mode: u32) -> Result<()> {
    fs::write(file, content)?;
    let group = pod.spec["securityContext"]["fsGroup"].as_u64().or(pod.spec["securityContext"]["runAsGroup"].as_u64());
    let group = group.and_then(|group| u32::try_from(group).ok());
    std::os::unix::fs::chown(file, None, group).with_context(|| format!("cannot give {} away", file.display()))?;
    fs::set_permissions(file, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// The URL with another host and port, as it is inside the network.
fn inside(url: &str, host: &str) -> String {
    let (before, after) = url.rsplit_once('@').unwrap_or(("", url));
    let path = after.split_once('/').map_or("", |(_, path)| path);
    format!("{before}@{host}/{path}")
}

/// A quantity of Kubernetes, in Docker's words.
fn memory_limit(quantity: &Value) -> Result<String> {
    let text = text(quantity);
    let number = text.strip_suffix("Mi").with_context(|| format!("the memory limit `{text}` is not in Mi"))?;
    Ok(format!("{number}m"))
}
