//! From settings to the server's configuration, once everything about them is known to make sense.

use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use dunnage_server::{
    AccessConfig, CallbackSecret, Config, DatabaseConfig, HttpConfig, JobConfig, ServiceConfig, StorageConfig, WorkerConfig,
};
use dunnage_types::ServiceName;
use rustix::fs::{Access, access};

use super::Settings;
use super::access::AccessSettings;
use super::problems::Problems;
use super::secret::Secret;

/// The scripts that are looked for in a folder.
const SCRIPT_NAMES: [&str; 2] = ["model.py", "model.lua"];
/// The folder beside the script for everything the server keeps.
const DATA_DIR: &str = ".dunnage";
/// The extensions that name a runtime by themselves.
const KNOWN_EXTENSIONS: [&str; 2] = ["py", "lua"];
/// How the address of a database may begin.
const DATABASE_SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
/// The variable that Amazon ECS sets in its containers.
const ECS_AGENT: &str = "ECS_AGENT_URI";
/// A shorter lease would be lost to an ordinary pause of the database.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);
/// With a longer one, the jobs of a dead replica would seem to hang.
const LONGEST_LEASE: Duration = Duration::from_secs(3600);

impl Settings {
    /// The configuration of a server.
    ///
    /// # Errors
    ///
    /// Every problem there is with the settings, not only the first.
    pub(crate) fn to_config(&self) -> Result<Config, Problems> {
        let mut problems = Vec::new();
        let script = self.find_script().unwrap_or_else(|problem| {
            problems.push(problem);
            PathBuf::new()
        });
        self.check_runtime(&script, &mut problems);
        problems.extend(unusable(&self.data_dir(&script)));
        self.check_files_root(&mut problems);
        self.check_database(&mut problems);
        self.check_counts(&mut problems);
        self.check_times(&mut problems);
        self.check_agent(&mut problems);
        self.check_access(&mut problems);
        let access = self.access.config(&mut problems);
        self.callbacks.check(&mut problems);
        self.objects.check(&mut problems);
        self.metrics.check(&mut problems);
        let secrets = self.callbacks.secrets().unwrap_or_else(|problem| {
            problems.push(problem);
            Vec::new()
        });
        Problems::none_in("settings", problems)?;
        Ok(self.config(script, secrets, access))
    }

    /// The configuration to load the script with, which asks nothing of what only a server needs.
    ///
    /// # Errors
    ///
    /// Every problem with the script and the settings.
    pub(crate) fn to_check_config(&self) -> Result<Config, Problems> {
        let mut harmless = self.clone();
        harmless.http.allow_anonymous = true;
        harmless.access =
            AccessSettings { token_file: None, tokens: None, tls_cert: None, tls_key: None, allowed_origin: Vec::new() };
        harmless.jobs.ecs_task_protection = false;
        harmless.storage.data_dir = Some(std::env::temp_dir());
        harmless.to_config()
    }

    /// The script itself: the file named, or the only one in the folder named.
    pub(crate) fn find_script(&self) -> Result<PathBuf, String> {
        match &self.script {
            None => only_script(Path::new("")),
            Some(path) if path.is_dir() => only_script(path),
            Some(path) if path.is_file() => Ok(path.clone()),
            Some(path) if path.exists() => Err(format!("`{}` is not a file", path.display())),
            Some(path) => Err(format!("the script `{}` does not exist", path.display())),
        }
    }

    /// The name given, or else the script's.
    pub(crate) fn service_name(&self, script: &Path) -> ServiceName {
        let from_script = || ServiceName::nearest(&script.file_stem().unwrap_or_default().to_string_lossy());
        self.service.name.clone().unwrap_or_else(from_script)
    }

    /// The folder given, or else the one beside the script, so that nothing depends on where the command is run.
    pub(crate) fn data_dir(&self, script: &Path) -> PathBuf {
        self.storage.data_dir.clone().unwrap_or_else(|| script.with_file_name(DATA_DIR))
    }

    fn check_runtime(&self, script: &Path, problems: &mut Vec<String>) {
        let extension = script.extension().unwrap_or_default();
        let found = !script.as_os_str().is_empty();
        if found && self.service.runtime.is_none() && !KNOWN_EXTENSIONS.iter().any(|known| extension == *known) {
            let script = script.display();
            problems.push(format!("`{script}` is neither `.py` nor `.lua`; say what runs it, for example with `--runtime lua`"));
        }
    }

    fn check_files_root(&self, problems: &mut Vec<String>) {
        if let Some(root) = self.storage.files_root.as_deref().filter(|root| !root.is_dir()) {
            problems.push(format!("`--files-root {}` is not an existing folder", root.display()));
        }
    }

    fn check_counts(&self, problems: &mut Vec<String>) {
        let counts = [
            ("workers", self.workers.workers == 0),
            ("max-batch", self.workers.max_batch == 0),
            ("max-queue", self.workers.max_queue == 0),
            ("max-attempts", self.jobs.max_attempts == 0),
            ("max-files", self.http.max_files == 0),
            ("database-connections", self.storage.database_connections == 0),
            ("max-streams", self.http.max_streams == 0),
            ("max-output", self.workers.max_output == ByteSize(0)),
            ("max-body", self.http.max_body == ByteSize(0)),
            ("max-upload", self.http.max_upload == ByteSize(0)),
        ];
        let zeros = counts.iter().filter(|(_, is_zero)| *is_zero);
        problems.extend(zeros.map(|(name, _)| format!("`--{name}` must be at least 1")));
        self.http.connections.check(problems);
    }

    fn check_times(&self, problems: &mut Vec<String>) {
        let times = [
            ("timeout", self.workers.timeout),
            ("load-timeout", self.workers.load_timeout),
            ("job-timeout", self.jobs.job_timeout),
        ];
        let zeros = times.iter().filter(|(_, time)| time.is_zero());
        problems.extend(zeros.map(|(name, _)| format!("`--{name}` must be longer than 0s")));
        if !self.workers.timeout.is_zero() && self.workers.max_wait >= self.workers.timeout {
            problems.push("`--max-wait` must be shorter than `--timeout`, or every request would time out".to_owned());
        }
        if !(SHORTEST_LEASE..=LONGEST_LEASE).contains(&self.jobs.lease) {
            problems.push("`--lease` must be between 1s and 1h".to_owned());
        }
    }

    fn check_agent(&self, problems: &mut Vec<String>) {
        if self.jobs.ecs_task_protection && ecs_agent().is_none() {
            problems.push(format!(
                "`--ecs-task-protection` needs `{ECS_AGENT}`, which Amazon ECS sets in its containers; leave it out elsewhere"
            ));
        }
    }

    fn check_access(&self, problems: &mut Vec<String>) {
        let (host, has_tokens) = (self.http.host, self.access.has_tokens());
        if !host.is_loopback() && !self.http.allow_anonymous && !has_tokens {
            problems.push(format!(
                "on `--host {host}` anybody who can reach this machine could use the service; name who may with \
                 `--token-file` or `DUNNAGE_TOKENS`, or add `--allow-anonymous` (`DUNNAGE_ALLOW_ANONYMOUS=true`) if that is \
                 meant"
            ));
        }
        if self.http.allow_anonymous && has_tokens {
            problems.push("there are tokens, and `--allow-anonymous` says that none is needed; leave one of them out".to_owned());
        }
    }

    /// The database of a fleet, if one is named.
    pub(crate) fn database(&self) -> Option<DatabaseConfig> {
        let url = self.storage.database_url.as_ref()?.reveal().to_owned();
        Some(DatabaseConfig { url, connections: self.storage.database_connections })
    }

    fn check_database(&self, problems: &mut Vec<String>) {
        let url = self.storage.database_url.as_ref().map(Secret::reveal);
        // What it holds besides is not repeated: it may be a password.
        if url.is_some_and(|url| !DATABASE_SCHEMES.iter().any(|scheme| url.starts_with(scheme))) {
            problems.push("`--database-url` must begin with `postgres://`".to_owned());
        }
    }

    fn config(&self, script: PathBuf, secrets: Vec<CallbackSecret>, access: AccessConfig) -> Config {
        let Self { service, http, workers, jobs, callbacks, storage, objects, metrics, .. } = self;
        Config {
            service: ServiceConfig {
                name: self.service_name(&script),
                script: script.clone(),
                runtime: service.runtime.clone(),
                python: service.python.clone(),
                device: service.device.clone(),
                reload: service.reload,
                loop_patience: service.loop_patience,
            },
            http: HttpConfig {
                host: http.host,
                port: http.port,
                allow_anonymous: http.allow_anonymous,
                allowed_hosts: http.allowed_host.clone(),
                threads: http.http_threads,
                max_body_bytes: in_memory(http.max_body),
                max_upload_bytes: http.max_upload.as_u64(),
                max_files: http.max_files,
                max_streams: http.max_streams,
                connections: http.connections.config(),
            },
            access,
            workers: WorkerConfig {
                serving: workers.workers,
                threads: workers.threads_per_worker,
                max_batch: workers.max_batch,
                max_wait: workers.max_wait,
                max_queue: workers.max_queue,
                max_queue_wait: workers.max_queue_wait,
                timeout: workers.timeout,
                load_timeout: workers.load_timeout,
                recycling: workers.recycling.config(),
                max_output_bytes: in_memory(workers.max_output),
            },
            jobs: JobConfig {
                workers: jobs.job_workers,
                timeout: jobs.job_timeout,
                max_attempts: jobs.max_attempts,
                lease: jobs.lease,
                cancel_grace: jobs.cancel_grace,
                idle: jobs.job_idle,
                grace: jobs.grace,
                retention: jobs.retention,
                max_log_lines: jobs.max_log_lines,
                ecs_agent: jobs.ecs_task_protection.then(ecs_agent).flatten(),
            },
            callbacks: callbacks.config(secrets),
            storage: StorageConfig {
                data_dir: self.data_dir(&script),
                files_root: storage.files_root.clone(),
                database: self.database(),
                state_value_bytes: in_memory(storage.state_value_bytes),
                state_cache_bytes: storage.state_cache_bytes.as_u64(),
                state_max_stale: storage.state_max_stale,
            },
            objects: objects.config(&self.data_dir(&script)),
            metrics: metrics.config(),
            lost_log_lines: Arc::default(),
        }
    }
}

/// The container agent of Amazon ECS, which says itself where it is.
fn ecs_agent() -> Option<String> {
    std::env::var(ECS_AGENT).ok().filter(|address| !address.is_empty())
}

fn only_script(folder: &Path) -> Result<PathBuf, String> {
    let found: Vec<_> = SCRIPT_NAMES.iter().map(|name| folder.join(name)).filter(|path| path.is_file()).collect();
    let place = if folder == Path::new("") { "here".to_owned() } else { format!("in `{}`", folder.display()) };
    match found.as_slice() {
        [script] => Ok(script.clone()),
        [] => Err(format!("there is no `model.py` or `model.lua` {place}; name the script, or make one with `dunnage new NAME`")),
        _ => Err(format!("there are both `model.py` and `model.lua` {place}; name the one to serve")),
    }
}

/// Why the server could keep nothing in this folder. Nothing is made yet, for `dunnage config` asks, too.
fn unusable(data_dir: &Path) -> Option<String> {
    let shown = data_dir.display();
    // Without a current folder there is no script either, and that is a problem of its own.
    let whole = absolute(data_dir).ok()?;
    let existing = whole.ancestors().find(|folder| folder.symlink_metadata().is_ok())?;
    let problem = if !existing.is_dir() {
        "is not a folder"
    } else if access(existing, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        "may not be written to"
    } else {
        return None;
    };
    Some(if existing == whole {
        format!("`--data-dir {shown}` {problem}")
    } else {
        format!("`--data-dir {shown}` cannot be made: `{}` {problem}", existing.display())
    })
}

/// More than the address space is the same as all of it.
pub(super) fn in_memory(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        settings: Settings,
    }

    fn settings(arguments: &[&str]) -> Settings {
        Only::parse_from([&["serve"], arguments].concat()).settings
    }

    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        folder
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let folder = folder_with(&["Walk 2.py"]);
        let script = folder.path().join("Walk 2.py");
        let config = settings(&[script.to_str().unwrap()]).to_config().unwrap();
        assert_eq!(config.service.name.as_str(), "walk-2");
        assert_eq!(config.service.script, script);
        assert_eq!((config.http.host.to_string().as_str(), config.http.port), ("127.0.0.1", 8080));
        assert_eq!((config.http.max_body_bytes, config.http.max_upload_bytes, config.http.max_files), (1 << 20, 1 << 30, 10_000));
        assert_eq!(config.http.max_streams, 1000);
        assert_eq!((config.workers.serving, config.workers.max_batch, config.workers.max_queue), (1, 32, 1024));
        assert_eq!((config.workers.max_wait, config.workers.timeout), (Duration::ZERO, Duration::from_secs(30)));
        assert_eq!((config.jobs.timeout, config.jobs.retention), (Duration::from_secs(86_400), Duration::from_secs(604_800)));
        assert_eq!(config.storage.state_value_bytes, 8 << 20);
    }

    #[test]
    fn results_are_written_only_where_that_is_allowed() {
        let folder = folder_with(&["model.py"]);
        let allowed = |arguments: &[&str]| {
            let script = folder.path().to_str().unwrap();
            settings(&[&[script], arguments].concat()).to_config().unwrap().objects.allow_output
        };
        assert!(allowed(&[]).is_empty());
        let places = allowed(&["--allow-output", "s3://results/gait/,s3://scratch"]);
        assert_eq!(places, allowed(&["--allow-output", "s3://results/gait/", "--allow-output", "s3://scratch"]));
        let texts: Vec<_> = places.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["s3://results/gait/", "s3://scratch"]);
    }

    #[test]
    fn a_folder_stands_for_its_only_script() {
        let only = folder_with(&["model.lua", "other.py"]);
        assert_eq!(settings(&[only.path().to_str().unwrap()]).find_script(), Ok(only.path().join("model.lua")));
        let (none, both) = (folder_with(&[]), folder_with(&["model.lua", "model.py"]));
        let problem = |folder: &tempfile::TempDir| {
            let path = folder.path().to_str().unwrap();
            settings(&[path]).find_script().unwrap_err().replace(path, "F")
        };
        assert_eq!(
            problem(&none),
            "there is no `model.py` or `model.lua` in `F`; name the script, or make one with `dunnage new NAME`"
        );
        assert_eq!(problem(&both), "there are both `model.py` and `model.lua` in `F`; name the one to serve");
    }

    #[test]
    fn every_problem_is_found_at_once() {
        let folder = folder_with(&["model.txt"]);
        let script = folder.path().join("model.txt");
        let script = script.to_str().unwrap();
        let arguments = [
            script,
            "--host",
            "0.0.0.0",
            "--files-root",
            "/nowhere",
            "--data-dir",
            script,
            "--workers",
            "0",
            "--max-batch",
            "0",
            "--timeout",
            "0s",
            "--lease",
            "2h",
        ];
        let problems = settings(&arguments).to_config().unwrap_err();
        let found: Vec<_> = problems.found.iter().map(|problem| problem.replace(script, "S")).collect();
        assert_eq!(
            found,
            [
                "`S` is neither `.py` nor `.lua`; say what runs it, for example with `--runtime lua`",
                "`--data-dir S` is not a folder",
                "`--files-root /nowhere` is not an existing folder",
                "`--workers` must be at least 1",
                "`--max-batch` must be at least 1",
                "`--timeout` must be longer than 0s",
                "`--lease` must be between 1s and 1h",
                "on `--host 0.0.0.0` anybody who can reach this machine could use the service; name who may with \
                 `--token-file` or `DUNNAGE_TOKENS`, or add `--allow-anonymous` (`DUNNAGE_ALLOW_ANONYMOUS=true`) if that is \
                 meant",
            ]
        );
    }

    #[test]
    fn a_missing_script_is_the_only_problem_told_of_it() {
        let problems = settings(&["/nowhere/model.txt"]).to_config().unwrap_err();
        assert_eq!(problems.to_string(), "settings: the script `/nowhere/model.txt` does not exist");
    }

    #[test]
    fn checking_a_script_does_not_ask_who_may_reach_it() {
        let folder = folder_with(&["model.py"]);
        let settings = settings(&[folder.path().to_str().unwrap(), "--host", "0.0.0.0"]);
        assert!(settings.to_config().is_err());
        assert!(settings.to_check_config().is_ok());
    }

    #[test]
    fn waiting_for_a_batch_must_leave_time_to_answer() {
        let folder = folder_with(&["model.py"]);
        let settings = settings(&[folder.path().to_str().unwrap(), "--max-wait", "30s"]);
        let problem = "settings: `--max-wait` must be shorter than `--timeout`, or every request would time out";
        assert_eq!(settings.to_config().unwrap_err().to_string(), problem);
    }
}
