//! What holds of artifacts whatever happens to the folders, the bucket and the processes.

mod bucket;
mod local;
mod remote;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use dunnage_store::Lease;
use dunnage_types::{JobId, ModelVersion, ReplicaId, Timestamp, Version, VersionState};
use tempfile::TempDir;

use super::objects::Objects;
use super::{ArtifactLimits, ArtifactName, Artifacts, RemoteArtifacts};
use bucket::FakeBucket;

/// A data folder, with a bucket if there is one; each [`Site::open`] is one life of a server.
struct Site {
    folder: TempDir,
    bucket: Option<Arc<FakeBucket>>,
}

impl Site {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), bucket: None }
    }

    fn with(bucket: &Arc<FakeBucket>) -> Self {
        Self { bucket: Some(Arc::clone(bucket)), ..Self::new() }
    }

    fn open(&self) -> Artifacts {
        self.open_with(ArtifactLimits::default())
    }

    fn open_with(&self, limits: ArtifactLimits) -> Artifacts {
        let service = "tests".parse().unwrap();
        let artifacts = Artifacts::open(self.folder.path(), ReplicaId::random(), limits).unwrap();
        match self.bucket.clone() {
            Some(bucket) => artifacts.shared_in(RemoteArtifacts::new(bucket as Arc<dyn Objects>, &service)),
            None => artifacts,
        }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = entries.filter(|name| name != "pending").collect();
        names.sort();
        names
    }
}

fn lease() -> Lease {
    Lease { job: JobId::random(), number: 1 }
}

/// Trains: two files, one of them in a folder.
async fn trained(artifacts: &Artifacts, lease: Lease, weights: &str) -> ArtifactName {
    let folder = artifacts.begin(lease).unwrap();
    fs::create_dir(folder.join("sub")).unwrap();
    fs::write(folder.join("weights"), weights).unwrap();
    fs::write(folder.join("sub/scale"), "0.5").unwrap();
    artifacts.complete(lease).await.unwrap()
}

fn version(artifact: &str) -> ModelVersion {
    ModelVersion {
        version: Version::new(7).unwrap(),
        state: VersionState::Ready,
        active: true,
        artifact: artifact.to_owned(),
        job: JobId::random(),
        created_at: Timestamp::now(),
        error: None,
    }
}

async fn obtained(artifacts: &Artifacts, name: &ArtifactName) -> Result<String, String> {
    let artifact = artifacts.obtain(&version(&name.to_string())).await.map_err(|error| error.to_string())?;
    assert_eq!((artifact.version, read(&artifact.path, "sub/scale").as_str()), (7, "0.5"));
    Ok(read(&artifact.path, "weights"))
}

fn read(folder: &Path, path: &str) -> String {
    fs::read_to_string(folder.join(path)).unwrap()
}
