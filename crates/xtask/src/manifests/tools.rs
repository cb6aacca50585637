//! The programs that render and judge. They are Python packages in a virtual environment under `target/`, and `kubectl`.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use testbed::{step, workspace};
use tokio::process::Command;

use super::Rendered;
use crate::command::{output, run};

const PACKAGES: [&str; 2] = ["kubernetes-validate==1.37.0", "checkov==3.3.30"];

/// The oldest release of Kubernetes that the manifests are for: the first with all that they use switched on.
const KUBERNETES: &str = "1.33.0";

/// YAML documents from standard input, as a JSON array.
const TO_JSON: &str = "import json, sys, yaml; json.dump([d for d in yaml.safe_load_all(sys.stdin) if d], sys.stdout)";

/// The installed programs.
pub(crate) struct Tools {
    /// The virtual environment's programs.
    programs: PathBuf,
    /// Where what is rendered is kept.
    rendered: PathBuf,
}

impl Tools {
    /// Makes the virtual environment, unless it has these packages already.
    pub(crate) async fn install() -> Result<Self> {
        if run("kubectl", &["version".as_ref(), "--client".as_ref()]).await.is_err() {
            bail!("`kubectl` is needed to render the manifests, as it is to apply them: install it");
        }
        let target = workspace::root()?.join("target/manifests");
        let environment = target.join("python");
        let (programs, installed) = (environment.join("bin"), environment.join("installed"));
        if fs::read_to_string(&installed).is_ok_and(|packages| packages == PACKAGES.join(" ")) {
            return Ok(Self { programs, rendered: target });
        }
        fs::create_dir_all(&target)?;
        step("installing kubernetes-validate and checkov", async {
            testbed::python().await?;
            run("python3", &["-m".as_ref(), "venv".as_ref(), "--clear".as_ref(), environment.as_os_str()]).await?;
            let arguments = ["install", "--quiet", "--disable-pip-version-check"].into_iter().chain(PACKAGES);
            run(programs.join("pip"), &arguments.map(OsStr::new).collect::<Vec<_>>()).await
        })
        .await?;
        fs::write(installed, PACKAGES.join(" "))?;
        Ok(Self { programs, rendered: target })
    }

    /// Renders an overlay of `kubernetes`.
    pub(crate) async fn render(&self, kubernetes: &Path, overlay: &str) -> Result<Rendered> {
        self.render_folder(&kubernetes.join("overlays").join(overlay), overlay).await
    }

    /// The same of any folder, in a file called `name`.
    pub(super) async fn render_folder(&self, folder: &Path, name: &str) -> Result<Rendered> {
        let yaml = run("kubectl", &["kustomize".as_ref(), folder.as_os_str()]).await?;
        let file = self.rendered.join(format!("{name}.yaml"));
        fs::write(&file, yaml)?;
        Ok(Rendered { resources: self.documents(&file).await?, file })
    }

    /// The documents of a YAML file.
    pub(super) async fn documents(&self, file: &Path) -> Result<Vec<Value>> {
        let yaml = fs::File::open(file).with_context(|| file.display().to_string())?;
        let mut command = Command::new(self.programs.join("python"));
        command.args(["-c", TO_JSON]).stdin(yaml);
        serde_json::from_str(&output(command).await?).with_context(|| file.display().to_string())
    }

    /// Kubernetes' own schemas, without unknown fields. Kinds that it has no schema for are left to [`super::crds`].
    pub(super) async fn kubernetes_schemas(&self, file: &Path) -> Result<()> {
        let options = ["--strict", "--quiet", "--no-warn", "--kubernetes-version", KUBERNETES].map(OsStr::new);
        let arguments: Vec<_> = options.into_iter().chain([file.as_os_str()]).collect();
        run(self.programs.join("kubernetes-validate"), &arguments).await.map(drop)
    }

    /// Checkov's policies, but for the exceptions of `config`. It asks nothing of the network.
    pub(super) async fn policies(&self, file: &Path, config: &Path) -> Result<()> {
        let options = ["--quiet", "--compact", "--skip-download", "--config-file"].map(OsStr::new);
        let arguments: Vec<_> =
            options.into_iter().chain([config.as_os_str(), "--file".as_ref(), file.as_os_str()]).collect();
        run(self.programs.join("checkov"), &arguments).await.map(drop)
    }
}
