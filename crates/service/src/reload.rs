//! Reads values again whose file has changed, and hands them to those who use them.
//!
//! The files are looked at every few seconds: Kubernetes puts another folder behind a symlink, others write a file anew, and no event of
//! the file system tells of all of these. A value counts when it was the same at two looks, so that a half-written file is none. One that
//! is empty or invalid is not taken, and the one before stays. No value is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use settings::{ConfigScope, Reloadable, Settings};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::error::ServiceFailure;

/// How long after a change a file is looked at once more.
const SETTLED_AFTER: Duration = Duration::from_millis(500);

/// How long a file may take to be read. Then it counts as unreadable.
const LONGEST_LOOK: Duration = Duration::from_secs(2);

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
    /// A look that has not ended.
    pending: Option<oneshot::Receiver<Option<String>>>,
}

impl ValueFile {
    /// What it holds; `None` when that is no value, or does not come in time.
    async fn look(&mut self) -> Option<String> {
        let may_be_empty = self.setting.may_be_empty();
        let mut look = self.pending.take().unwrap_or_else(|| look_apart(self.path.clone(), may_be_empty));
        if let Ok(found) = tokio::time::timeout(LONGEST_LOOK, &mut look).await {
            return found.unwrap_or_default();
        }
        // The next look waits for the same answer: there is never more than one thread for a file.
        self.pending = Some(look);
        None
    }
}

/// Looks at a file in a thread that nothing has to wait for: one on a network that is away may not answer for ever, and the runtime
/// would end only after its own threads.
fn look_apart(path: PathBuf, may_be_empty: bool) -> oneshot::Receiver<Option<String>> {
    let (found, look) = oneshot::channel();
    let value = move || match settings::value_again(&path) {
        Ok(value) if value.is_empty() && !may_be_empty => None,
        Ok(value) => Some(value),
        // A mount has no file for a secret that was taken away.
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_be_empty => Some(String::new()),
        Err(_) => None,
    };
    let thread = std::thread::Builder::new().name("reload".to_owned());
    // Without a thread nothing is found; and who asked may have gone.
    let _ = thread.spawn(move || found.send(value()));
    look
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
                self.files.push(ValueFile { setting, path, seen: None, refused: None, pending: None });
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
                if self.look().await {
                    tokio::time::sleep(SETTLED_AFTER).await;
                    self.look().await;
                }
            }
        };
        let watch = tokio::spawn(stop.clone().run_until_cancelled_owned(watch));
        tokio::spawn(async move {
            // What it says may quote a value.
            if watch.await.is_err_and(|error| error.is_panic()) {
                tracing::error!("files of values are not read again any more, because of a panic: restart the service");
            }
        });
    }

    /// Looks at every file once, and returns whether one has to be looked at again, because it is new since the last look. What is the same,
    /// and not what is used, is taken.
    async fn look(&mut self) -> bool {
        let (mut settled, mut refused, mut is_unsettled) = (BTreeMap::new(), BTreeMap::new(), false);
        for file in &mut self.files {
            let value = file.look().await;
            let has_changed = value != file.seen;
            match &value {
                Some(_) if has_changed => is_unsettled = true,
                Some(value) if self.settings.value(file.setting).unwrap_or_default() != value.as_str() => {
                    let known = if file.refused == file.seen { &mut refused } else { &mut settled };
                    known.insert(file.setting, value.clone());
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
            // What was refused may be good with what has come now.
            let of_new = self.takers.iter().filter(|(of, _)| of.iter().any(|setting| settled.contains_key(setting)));
            let together: BTreeSet<_> = of_new.flat_map(|(of, _)| of).copied().collect();
            settled.extend(refused.into_iter().filter(|(setting, _)| together.contains(setting)));
            self.take_valid(&settled);
        }
        is_unsettled
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
                    self.refuse(&one);
                }
            }
        }
    }

    /// Hands `fresh` to those who use one of `values`. Of those that cannot be used, the ones before stay.
    fn take(&mut self, fresh: Settings, values: &BTreeMap<Reloadable, String>) {
        let mut failed = BTreeMap::new();
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
                    failed.extend(changed.iter().map(|setting| (**setting, values[*setting].clone())));
                    "invalid"
                }
            };
            changed.into_iter().for_each(|setting| count(*setting, outcome));
        }
        let mut taken = values.clone();
        taken.retain(|setting, _| !failed.contains_key(setting));
        // What is valid with the others is so without them, but for what belongs together, which one taker takes.
        self.settings = self.settings.with_values(&taken, self.scope).unwrap_or(fresh);
        self.refuse(&failed);
    }

    /// Remembers values that are not taken, until their files hold others.
    fn refuse(&mut self, values: &BTreeMap<Reloadable, String>) {
        for file in &mut self.files {
            if let Some(value) = values.get(&file.setting) {
                file.refused = Some(value.clone());
            }
        }
    }
}

fn count(setting: Reloadable, outcome: &'static str) {
    metrics::counter!("leadline_secret_reloads_total", "setting" => setting.key(), "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{remove_file, write},
        process::Command,
        sync::{Arc, Mutex},
    };

    use secrecy::ExposeSecret;
    use settings::{ConfigScope, Reloadable, Settings};
    use testbed::SecretMount;

    use super::Reload;

    /// What has been taken so far.
    type Taken = Arc<Mutex<Vec<String>>>;

    fn reload(mount: &SecretMount) -> (Reload, Taken) {
        let file = mount.file("token");
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
    async fn settle(reload: &mut Reload) {
        while reload.look().await {}
    }

    fn mount() -> SecretMount {
        SecretMount::new(&[("token", "pat-first")]).expect("a folder")
    }

    /// Puts another folder with another token behind the link.
    fn swap(mount: &SecretMount, version: &str, token: &str) {
        mount.swap(version, &[("token", token)]).expect("swapped");
    }

    /// Writes the file itself, as others do.
    fn rewrite(mount: &SecretMount, token: &str) {
        write(mount.path("token"), token).expect("written");
    }

    #[tokio::test]
    async fn a_swapped_folder_and_a_rewritten_file_are_read_again_once() {
        let mount = mount();
        let (mut reload, takes) = reload(&mount);
        settle(&mut reload).await;
        settle(&mut reload).await;
        assert_eq!(taken(&takes), Vec::<String>::new(), "it is what the service started with");
        swap(&mount, "2", "pat-second");
        settle(&mut reload).await;
        settle(&mut reload).await;
        assert_eq!(taken(&takes), ["pat-second"]);
        rewrite(&mount, "pat-third");
        settle(&mut reload).await;
        settle(&mut reload).await;
        assert_eq!(taken(&takes), ["pat-second", "pat-third"]);
    }

    #[tokio::test]
    async fn a_file_that_is_empty_half_written_or_invalid_changes_nothing_until_it_is_good() {
        let mount = mount();
        let (mut reload, takes) = reload(&mount);
        settle(&mut reload).await;
        rewrite(&mount, "");
        settle(&mut reload).await;
        // Written in pieces: at no two looks the same.
        for part in ["pa", "pat-s", "pat-sec"] {
            rewrite(&mount, part);
            assert!(reload.look().await, "{part} is looked at again");
        }
        rewrite(&mount, "two words");
        settle(&mut reload).await;
        remove_file(mount.path("token")).expect("removed");
        settle(&mut reload).await;
        assert_eq!(taken(&takes), Vec::<String>::new());
        rewrite(&mount, "pat-second");
        settle(&mut reload).await;
        assert_eq!(taken(&takes), ["pat-second"]);
    }

    #[tokio::test]
    async fn what_is_no_file_or_too_large_is_not_read() {
        let mount = mount();
        let (mut reload, takes) = reload(&mount);
        settle(&mut reload).await;
        let token = mount.path("token");
        remove_file(&token).expect("removed");
        let made = Command::new("mkfifo").arg(&token).status().expect("coreutils");
        assert!(made.success());
        // Nothing writes to the pipe.
        settle(&mut reload).await;
        remove_file(&token).expect("removed");
        rewrite(&mount, &"a".repeat(2 * 1_024 * 1_024));
        settle(&mut reload).await;
        assert_eq!(taken(&takes), Vec::<String>::new());
        remove_file(&token).expect("removed");
        rewrite(&mount, "pat-second");
        settle(&mut reload).await;
        assert_eq!(taken(&takes), ["pat-second"]);
    }

    /// What is in use is what was taken: the next look compares with that.
    #[tokio::test]
    async fn a_value_that_could_not_be_taken_is_not_the_one_that_is_used() {
        let mount = mount();
        let (mut reload, takes) = reload(&mount);
        reload.hand([Reloadable::HubSpotToken], |settings| {
            let token = settings.hubspot.token.as_ref().expect("there is one").expose_secret();
            if token == "pat-bad" { Err("it is bad".into()) } else { Ok(()) }
        });
        settle(&mut reload).await;
        swap(&mount, "2", "pat-bad");
        settle(&mut reload).await;
        settle(&mut reload).await;
        assert_eq!(taken(&takes), ["pat-bad"], "it is tried once");
        assert_eq!(reload.settings.value(Reloadable::HubSpotToken), Some("pat-first"));
        swap(&mount, "3", "pat-good");
        settle(&mut reload).await;
        assert_eq!(taken(&takes), ["pat-bad", "pat-good"]);
        assert_eq!(reload.settings.value(Reloadable::HubSpotToken), Some("pat-good"));
    }
}
