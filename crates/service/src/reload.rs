//! Reads values again whose file has changed, and hands them to those who use them.
//!
//! The files are looked at every few seconds: Kubernetes puts another folder behind a symlink, others write a file anew, and no event of
//! the file system tells of all of these. A value counts when it was the same at two looks, so that a half-written file is none. One that
//! is empty or invalid is not taken, and the one before stays. No value is told.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use settings::{ConfigScope, Reloadable, Settings};
use tokio_util::sync::CancellationToken;

use crate::error::ServiceFailure;

/// How long after a change a file is looked at once more.
const SETTLED_AFTER: Duration = Duration::from_millis(500);

type Take = Box<dyn Fn(&Settings) -> Result<(), ServiceFailure> + Send + Sync>;

/// The values of a service that may change while it runs, and who takes them.
pub struct Reload {
    settings: Settings,
    scope: ConfigScope,
    files: Vec<ValueFile>,
    takers: Vec<(Vec<Reloadable>, Take)>,
}

/// A file that holds a value.
struct ValueFile {
    setting: Reloadable,
    path: PathBuf,
    /// What it held when it was looked at last; `None` when that was no value.
    seen: Option<String>,
    /// A value of it that is not valid. It is told once.
    refused: Option<String>,
}

impl Reload {
    /// Those of `settings`, which have to stay valid for `scope`.
    pub fn new(settings: Settings, scope: ConfigScope) -> Self {
        Self { settings, scope, files: Vec::new(), takers: Vec::new() }
    }

    /// Calls `take` with the new settings when one of `of` has changed. An error says that it stays with what it has.
    pub fn hand<const N: usize>(
        &mut self,
        of: [Reloadable; N],
        take: impl Fn(&Settings) -> Result<(), ServiceFailure> + Send + Sync + 'static,
    ) {
        for setting in of {
            let path =
                self.settings.files.of(setting).filter(|_| !self.files.iter().any(|file| file.setting == setting));
            if let Some(path) = path.map(Path::to_owned) {
                // Read again: it may have changed since the service started.
                self.files.push(ValueFile { setting, path, seen: None, refused: None });
            }
        }
        self.takers.push((of.into(), Box::new(take)));
    }

    /// Looks at the files until `stop` is cancelled, every [`settings::SecretsSection::reload_seconds`].
    pub fn start(mut self, stop: &CancellationToken) {
        let interval = Duration::from_secs(self.settings.secrets.reload_seconds);
        if interval.is_zero() || self.files.is_empty() {
            return;
        }
        let watch = async move {
            loop {
                tokio::time::sleep(interval).await;
                // Files may be on a network.
                self = match tokio::task::spawn_blocking(move || self.look()).await {
                    Ok((reload, true)) => {
                        tokio::time::sleep(SETTLED_AFTER).await;
                        let Ok((reload, _)) = tokio::task::spawn_blocking(move || reload.look()).await else { return };
                        reload
                    }
                    Ok((reload, false)) => reload,
                    Err(_) => return,
                };
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(watch));
    }

    /// Looks at every file once. What is new since the last look is looked at again; what is the same, and not what is used, is taken.
    fn look(mut self) -> (Self, bool) {
        let (mut settled, mut is_unsettled) = (BTreeMap::new(), false);
        for file in &mut self.files {
            let value =
                settings::value_of(&file.path).ok().filter(|value| !value.is_empty() || file.setting.may_be_empty());
            let has_changed = value != file.seen;
            match &value {
                Some(_) if has_changed => is_unsettled = true,
                Some(value) if self.settings.value(file.setting) != Some(value) && file.refused != file.seen => {
                    settled.insert(file.setting, value.clone());
                }
                None if has_changed => {
                    let key = file.setting.key();
                    tracing::warn!(
                        setting = key,
                        "the file of a value is empty or cannot be read; the value stays as it was"
                    );
                    count(file.setting, "unreadable");
                }
                _ => {}
            }
            file.seen = value;
        }
        // One file of a pair may still be on its way.
        if !is_unsettled && !settled.is_empty() {
            self.take_valid(&settled);
        }
        (self, is_unsettled)
    }

    /// Takes all of `values`, or, when they are not valid together, each that is valid by itself.
    fn take_valid(&mut self, values: &BTreeMap<Reloadable, String>) {
        if let Ok(fresh) = self.settings.with_values(values, self.scope) {
            return self.take(fresh, values);
        }
        for (setting, value) in values {
            let one = BTreeMap::from([(*setting, value.clone())]);
            match self.settings.with_values(&one, self.scope) {
                Ok(fresh) => self.take(fresh, &one),
                Err(error) => {
                    tracing::error!(%error, "a value that was read again is not valid; the one before stays");
                    count(*setting, "invalid");
                    let of_setting = self.files.iter_mut().filter(|file| file.setting == *setting);
                    of_setting.for_each(|file| file.refused = Some(value.clone()));
                }
            }
        }
    }

    fn take(&mut self, fresh: Settings, values: &BTreeMap<Reloadable, String>) {
        for (of, take) in &self.takers {
            let changed: Vec<_> = of.iter().filter(|setting| values.contains_key(setting)).collect();
            if changed.is_empty() {
                continue;
            }
            let keys = changed.iter().map(|setting| setting.key()).collect::<Vec<_>>().join(", ");
            let outcome = match take(&fresh) {
                Ok(()) => {
                    tracing::info!(settings = keys, "read again from its file");
                    "reloaded"
                }
                Err(error) => {
                    tracing::error!(settings = keys, %error, "cannot be used; what was before stays");
                    "invalid"
                }
            };
            changed.into_iter().for_each(|setting| count(*setting, outcome));
        }
        self.settings = fresh;
    }
}

fn count(setting: Reloadable, outcome: &'static str) {
    metrics::counter!("leadline_secret_reloads_total", "setting" => setting.key(), "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use std::{
        path::PathBuf,
        sync::{Arc, Mutex},
    };

    use secrecy::ExposeSecret;
    use settings::{ConfigScope, Reloadable, Settings};

    use super::Reload;

    /// A folder with the file of a token, as Kubernetes mounts one.
    struct Mount(PathBuf);

    impl Mount {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("leadline-mount-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("a folder");
            std::os::unix::fs::symlink("..data/token", folder.join("token")).expect("a link");
            let mount = Self(folder);
            mount.swap("1", "pat-first\n");
            mount
        }

        fn token(&self) -> PathBuf {
            self.0.join("token")
        }

        /// Puts another folder behind the link, in one step.
        fn swap(&self, version: &str, token: &str) {
            std::fs::create_dir_all(self.0.join(version)).expect("a folder");
            std::fs::write(self.0.join(version).join("token"), token).expect("written");
            std::os::unix::fs::symlink(version, self.0.join("..next")).expect("a link");
            std::fs::rename(self.0.join("..next"), self.0.join("..data")).expect("swapped");
        }

        /// Writes the file itself, as others do.
        fn write(&self, token: &str) {
            std::fs::write(self.token(), token).expect("written");
        }
    }

    impl Drop for Mount {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// What has been taken so far.
    type Taken = Arc<Mutex<Vec<String>>>;

    fn reload(mount: &Mount) -> (Reload, Taken) {
        let file = mount.token().to_str().expect("UTF-8").to_owned();
        let environment = [("TOKEN_FILE", &*file), ("APP_ID", "1"), ("PORTAL_ID", "2")];
        let environment =
            environment.map(|(name, value)| (format!("LEADLINE__HUBSPOT__{name}"), value.to_owned())).to_vec();
        let settings = Settings::load_from(None, environment, ConfigScope::Writer).expect("valid");
        let (mut reload, taken) = (Reload::new(settings, ConfigScope::Writer), Taken::default());
        let takes = taken.clone();
        reload.hand([Reloadable::HubSpotToken], move |settings| {
            let token = settings.hubspot.token.as_ref().expect("there is one").expose_secret().to_owned();
            takes.lock().expect("unpoisoned").push(token);
            Ok(())
        });
        (reload, taken)
    }

    fn taken(taken: &Taken) -> Vec<String> {
        taken.lock().expect("unpoisoned").clone()
    }

    /// Looks until nothing is new.
    fn settle(mut reload: Reload) -> Reload {
        loop {
            let (next, is_unsettled) = reload.look();
            reload = next;
            if !is_unsettled {
                return reload;
            }
        }
    }

    #[test]
    fn a_swapped_folder_and_a_rewritten_file_are_read_again_once() {
        let mount = Mount::new("swapped");
        let (reload, takes) = reload(&mount);
        let reload = settle(settle(reload));
        assert_eq!(taken(&takes), Vec::<String>::new(), "it is what the service started with");
        mount.swap("2", "pat-second\n");
        let reload = settle(settle(reload));
        assert_eq!(taken(&takes), ["pat-second"]);
        mount.write("pat-third");
        settle(settle(reload));
        assert_eq!(taken(&takes), ["pat-second", "pat-third"]);
    }

    #[test]
    fn a_file_that_is_empty_half_written_or_invalid_changes_nothing_until_it_is_good() {
        let mount = Mount::new("half");
        let (reload, takes) = reload(&mount);
        let mut reload = settle(reload);
        mount.write("");
        reload = settle(reload);
        // Written in pieces: at no two looks the same.
        for part in ["pa", "pat-s", "pat-sec"] {
            mount.write(part);
            let (next, is_unsettled) = reload.look();
            assert!(is_unsettled, "{part} is looked at again");
            reload = next;
        }
        mount.write("two words");
        reload = settle(reload);
        std::fs::remove_file(mount.token()).expect("removed");
        reload = settle(reload);
        assert_eq!(taken(&takes), Vec::<String>::new());
        mount.write("pat-second");
        settle(reload);
        assert_eq!(taken(&takes), ["pat-second"]);
    }
}
