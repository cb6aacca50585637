//! `cargo xtask manifests`: what is in `deploy/kubernetes`, rendered and checked without a cluster.

mod collector;
mod crds;
mod pods;
mod tools;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use testbed::{step, workspace};

use self::{crds::Crds, pods::Known};
pub(crate) use self::{
    pods::{list, object, text},
    tools::Tools,
};
use crate::command::run;

/// The overlays that are checked.
pub(crate) const OVERLAYS: [&str; 2] = ["small", "scaled"];

/// What an overlay renders.
pub(crate) struct Rendered {
    /// All of it, as YAML.
    pub(crate) file: PathBuf,
    pub(crate) resources: Vec<Value>,
}

/// Fails with everything that is wrong.
pub async fn check() -> Result<()> {
    let tools = Tools::install().await?;
    let kubernetes = workspace::root()?.join("deploy/kubernetes");
    let known = Known::read(&tools, &kubernetes).await?;
    let crds = Crds::read(&tools).await?;
    let mut findings = Vec::new();
    let mut rendered = vec![(WITH_COMPONENTS, with_components(&tools, &kubernetes).await?)];
    for overlay in OVERLAYS {
        rendered.push((overlay, tools.render(&kubernetes, overlay).await?));
    }
    for (overlay, rendered) in rendered {
        step(&format!("{overlay}: Kubernetes' schemas"), tools.kubernetes_schemas(&rendered.file)).await?;
        step(&format!("{overlay}: policies"), tools.policies(&rendered.file, &kubernetes.join("checkov.yaml"))).await?;
        let resources = &rendered.resources;
        let found = crds.findings(resources)?.into_iter().chain(pods::findings(resources, &known));
        findings.extend(found.chain(collector::findings(resources)).map(|finding| format!("{overlay}: {finding}")));
    }
    findings.extend(migration_findings(&tools, &kubernetes).await?);
    if !findings.is_empty() {
        bail!("the manifests are wrong:\n  {}", findings.join("\n  "));
    }
    println!("the overlays {} hold", OVERLAYS.join(" and "));
    Ok(())
}

/// The base with every component: an operator may choose any.
const WITH_COMPONENTS: &str = "with-components";

async fn with_components(tools: &Tools, kubernetes: &Path) -> Result<Rendered> {
    let folder = workspace::root()?.join("target/manifests").join(WITH_COMPONENTS);
    fs::create_dir_all(&folder)?;
    let mut components = vec!["../../../deploy/kubernetes/image".to_owned()];
    for component in fs::read_dir(kubernetes.join("components"))? {
        let name = component?.file_name();
        components.push(format!("../../../deploy/kubernetes/components/{}", name.to_string_lossy()));
    }
    components.sort_unstable();
    let overlay = serde_json::json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../../../deploy/kubernetes/base"],
        "components": components,
    });
    fs::write(folder.join("kustomization.yaml"), overlay.to_string())?;
    tools.render_folder(&folder, WITH_COMPONENTS).await
}

/// A Job's template cannot be changed, so each image needs a Job of its own. Pins two images in copies of the folder and
/// compares what is rendered.
async fn migration_findings(tools: &Tools, kubernetes: &Path) -> Result<Option<String>> {
    let deploy = kubernetes.parent().context("deploy/kubernetes has a parent")?;
    let copy = workspace::root()?.join("target/manifests/pinned");
    let mut jobs = Vec::new();
    for digit in ["a", "b"] {
        if copy.exists() {
            fs::remove_dir_all(&copy)?;
        }
        run("cp", &["-r".as_ref(), deploy.as_os_str(), copy.as_os_str()]).await?;
        let image = format!("registry.example.com/leadline@sha256:{}", digit.repeat(64));
        run(copy.join("kubernetes/pin"), &[image.as_ref()]).await?;
        let rendered = tools.render(&copy.join("kubernetes"), "small").await?;
        let job = rendered.resources.into_iter().find(|resource| resource["kind"] == "Job");
        let job = job.context("small has no Job")?;
        if job["spec"]["template"]["spec"]["containers"][0]["image"] != image {
            return Ok(Some(format!("deploy/kubernetes/pin {image}: the Job runs another image")));
        }
        jobs.push(job["metadata"]["name"].clone());
    }
    fs::remove_dir_all(&copy)?;
    Ok((jobs[0] == jobs[1]).then(|| format!("two images have the same Job, {}, whose template cannot change", jobs[0])))
}
