//! What depends on what, and what must not. Each rule is a function that lists its violations, with a test that nothing breaks
//! it and a test that it would notice.
//!
//! A dependency counts where it ends up in what is shipped: those of tests do not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand};

/// Our crates, each with those of ours that it may depend on.
const ARROWS: [(&str, &[&str]); 15] = [
    ("cli", &["server", "loops", "types"]),
    ("server", &["workers", "store", "files", "loops", "protocol", "types"]),
    ("workers", &["loops", "protocol", "types"]),
    ("store", &["loops", "types"]),
    ("files", &["types"]),
    ("python", &["runtime", "protocol", "types"]),
    ("lua", &["runtime", "protocol", "types"]),
    ("runtime", &["protocol", "types"]),
    ("protocol", &["types"]),
    ("loops", &[]),
    ("types", &[]),
    ("testing", &[]),
    // What the server is measured against.
    ("limit", &[]),
    // Counts instructions.
    ("guard", &["workers", "loops", "protocol", "types"]),
    // Only tests and the fuzzer have any use for it.
    ("fuzzing", &["server", "workers", "files", "protocol", "types"]),
];
/// What only tests may depend on.
const TESTING: &str = "dunnage-testing";
/// What the server is made of; it links no interpreter.
const SERVER: [&str; 2] = ["dunnage-cli", "dunnage-server"];
const INTERPRETERS: [&str; 4] = ["pyo3", "mlua", "python3-sys", "luajit-src"];
/// What workers are made of; they hold no credentials, so they have no use for a database or S3.
const RUNTIMES: [&str; 3] = ["dunnage-runtime", "dunnage-python", "dunnage-lua"];
const STORES: [&str; 6] = ["rusqlite", "libsqlite3-sys", "tokio-postgres", "deadpool-postgres", "postgres", "aws-"];
/// What takes requests apart; compressed ones it must not be able to, for a small one could become one beyond all limits.
const READERS_OF_REQUESTS: [&str; 3] = ["actix-http", "actix-web", "actix-multipart"];
const DECOMPRESSORS: [&str; 4] = ["flate2", "brotli", "zstd", "async-compression"];
/// The licences of which one suffices. None asks more than to be named.
const PERMISSIVE: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];
const OWN_LICENCE: &str = "MIT OR Apache-2.0";

/// The packages of the workspace and below, and their dependencies, by name.
#[derive(Clone)]
struct Tree {
    members: Vec<Member>,
    licences: BTreeMap<String, Option<String>>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

/// A crate of ours.
#[derive(Clone)]
struct Member {
    name: String,
    /// `crates/cli`, from the workspace's root.
    folder: String,
    manifest: toml::Table,
    edition: String,
}

impl Tree {
    fn read() -> Self {
        // Packages for other systems may not be here, and would have to be downloaded.
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let options = ["--locked", "--filter-platform", &platform].map(str::to_owned).to_vec();
        let metadata = MetadataCommand::new().features(CargoOpt::AllFeatures).other_options(options).exec();
        Self::from_metadata(&metadata.expect("cargo describes the workspace"))
    }

    fn from_metadata(metadata: &Metadata) -> Self {
        let nodes = &metadata.resolve.as_ref().expect("dependencies are resolved").nodes;
        let mut tree = Self { members: Vec::new(), licences: BTreeMap::new(), edges: BTreeMap::new() };
        for node in nodes {
            let package = &metadata[&node.id];
            tree.licences.insert(package.name.to_string(), package.license.clone());
            let shipped = node.deps.iter().filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development));
            // Versions of the same name count as one.
            tree.edges.entry(package.name.to_string()).or_default().extend(shipped.map(|dep| metadata[&dep.pkg].name.to_string()));
        }
        for package in metadata.workspace_packages() {
            let folder = package.manifest_path.parent().expect("a manifest lies in a folder");
            let manifest = std::fs::read_to_string(&package.manifest_path).expect("a manifest can be read");
            tree.members.push(Member {
                name: package.name.to_string(),
                folder: folder.strip_prefix(&metadata.workspace_root).expect("members lie below the root").to_string(),
                manifest: manifest.parse().expect("a manifest is TOML"),
                edition: package.edition.to_string(),
            });
        }
        tree
    }

    fn with_edge(mut self, from: &str, to: &str) -> Self {
        self.edges.entry(from.to_owned()).or_default().insert(to.to_owned());
        self
    }

    /// Everything that `root` depends on, however far down.
    fn below<'a>(&'a self, root: &'a str) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut open = vec![root];
        while let Some(name) = open.pop() {
            let next = self.edges.get(name).into_iter().flatten().map(String::as_str);
            open.extend(next.filter(|name| found.insert(*name)));
        }
        found
    }

    fn ours(&self, from: &str) -> impl Iterator<Item = &str> {
        self.edges[from].iter().filter_map(|name| name.strip_prefix("dunnage-"))
    }
}

/// Our crates are the known ones, and named for their folders.
fn misnamed(tree: &Tree) -> Vec<String> {
    let found: BTreeSet<_> = tree.members.iter().map(|member| member.name.as_str()).collect();
    let known: BTreeSet<_> = ARROWS.iter().map(|(name, _)| format!("dunnage-{name}")).collect();
    let known = known.iter().map(String::as_str).collect();
    let strangers = found.symmetric_difference(&known).map(|name| format!("`{name}` is either not here or not in `ARROWS`"));
    let is_named = |member: &&Member| Path::new(&member.folder).ends_with(member.name.trim_start_matches("dunnage-"));
    let wrong = tree.members.iter().filter(|member| !is_named(member));
    strangers.chain(wrong.map(|member| format!("`{}` lies in `{}`", member.name, member.folder))).collect()
}

/// Arrows between our crates point one way.
fn forbidden_arrows(tree: &Tree) -> Vec<String> {
    let arrows = ARROWS.iter().flat_map(|(from, allowed)| {
        let found = tree.ours(&format!("dunnage-{from}")).collect::<Vec<_>>();
        found.into_iter().filter(|to| !allowed.contains(to)).map(move |to| format!("`{from}` depends on `{to}`"))
    });
    arrows.collect()
}

/// Nothing below `roots` is called like one of `unwanted`, or begins so.
fn intruders(tree: &Tree, roots: &[&str], unwanted: &[&str]) -> Vec<String> {
    let below = roots.iter().flat_map(|root| tree.below(root).into_iter().map(move |name| (root, name)));
    let found = below.filter(|(_, name)| unwanted.iter().any(|unwanted| name.starts_with(unwanted)));
    found.map(|(root, name)| format!("`{root}` comes to depend on `{name}`")).collect()
}

/// What is made for tests is in nothing that is shipped.
fn shipped_tests(tree: &Tree) -> Vec<String> {
    tree.members.iter().flat_map(|member| intruders(tree, &[&member.name], &[TESTING])).collect()
}

/// No language's runtime sees another.
fn acquainted_runtimes(tree: &Tree) -> Vec<String> {
    let languages: Vec<_> = tree.members.iter().filter(|member| member.folder.starts_with("runtimes/")).collect();
    assert!(languages.len() >= 2, "there are several languages");
    let others = |own: &str| languages.iter().map(|member| member.name.as_str()).filter(|name| *name != own).collect::<Vec<_>>();
    languages.iter().flat_map(|member| intruders(tree, &[&member.name], &others(&member.name))).collect()
}

/// Whatever is shipped may be shipped.
fn unusual_licences(tree: &Tree) -> Vec<String> {
    let shipped: BTreeSet<_> = tree.members.iter().flat_map(|member| tree.below(&member.name)).collect();
    let licence = |name: &str| tree.licences[name].as_deref().unwrap_or("none");
    let unusual = shipped.into_iter().filter(|name| !is_permissive(licence(name)));
    unusual.map(|name| format!("`{name}` has the licence `{}`", licence(name))).collect()
}

/// Whether an SPDX expression can be satisfied by permissive licences alone. Parentheses hold alternatives only, here.
fn is_permissive(expression: &str) -> bool {
    let is_known = |licence: &str| PERMISSIVE.contains(&licence.trim());
    let one_suffices = |choice: &str| choice.replace('/', " OR ").split(" OR ").any(is_known);
    match expression.split_once(')') {
        Some((choice, rest)) => {
            let choice = choice.trim().trim_start_matches('(');
            let rest = rest.trim();
            one_suffices(choice) && (rest.is_empty() || rest.strip_prefix("AND ").is_some_and(is_permissive))
        }
        None => expression.replace('/', " OR ").split(" OR ").any(|all| all.split(" AND ").all(is_known)),
    }
}

/// Our crates take edition, licence and lints from the workspace.
fn deviations(tree: &Tree) -> Vec<String> {
    let from_workspace = |table: Option<&toml::Value>| table.and_then(|value| value.get("workspace")?.as_bool()) == Some(true);
    let mut found = Vec::new();
    for Member { name, manifest, edition, .. } in &tree.members {
        let package = |key: &str| manifest.get("package").and_then(|package| package.get(key));
        for (what, holds) in [
            ("edition 2024", edition == "2024" && from_workspace(package("edition"))),
            ("the dual licence", tree.licences[name].as_deref() == Some(OWN_LICENCE) && from_workspace(package("license"))),
            ("the workspace's lints", from_workspace(manifest.get("lints"))),
        ] {
            if !holds {
                found.push(format!("`{name}` lacks {what}"));
            }
        }
    }
    found
}

const NOTHING: [&str; 0] = [];

#[test]
fn our_crates_are_the_known_ones_and_named_for_their_folders() {
    let mut tree = Tree::read();
    assert_eq!(misnamed(&tree), NOTHING);
    tree.members[0].name = "dunnage-stray".to_owned();
    assert_eq!(misnamed(&tree).len(), 3, "one is missing, one is unknown, and it lies in the wrong folder");
}

#[test]
fn arrows_point_one_way() {
    let tree = Tree::read();
    assert_eq!(forbidden_arrows(&tree), NOTHING);
    for (from, to) in [("store", "server"), ("types", "protocol"), ("python", "workers"), ("workers", "runtime")] {
        let planted = tree.clone().with_edge(&format!("dunnage-{from}"), &format!("dunnage-{to}"));
        assert_eq!(forbidden_arrows(&planted), [format!("`{from}` depends on `{to}`")]);
    }
}

#[test]
fn the_server_links_no_interpreter() {
    let tree = Tree::read();
    assert_eq!(intruders(&tree, &SERVER, &INTERPRETERS), NOTHING);
    let planted = tree.clone().with_edge("serde", "mlua-sys");
    let found = intruders(&planted, &SERVER, &INTERPRETERS);
    assert!(SERVER.iter().all(|root| found.contains(&format!("`{root}` comes to depend on `mlua-sys`"))), "{found:?}");
    let languages = intruders(&tree, &["dunnage-python", "dunnage-lua"], &INTERPRETERS);
    assert!(languages.len() >= 2, "an interpreter is found where there is one: {languages:?}");
}

#[test]
fn a_worker_has_no_database_and_no_s3() {
    let tree = Tree::read();
    assert_eq!(intruders(&tree, &RUNTIMES, &STORES), NOTHING);
    let planted = tree.clone().with_edge("dunnage-types", "aws-sdk-s3");
    let found = intruders(&planted, &RUNTIMES, &STORES);
    assert!(RUNTIMES.iter().all(|root| found.contains(&format!("`{root}` comes to depend on `aws-sdk-s3`"))), "{found:?}");
    assert!(!intruders(&tree, &["dunnage-server"], &STORES).is_empty(), "a database is found where there is one");
}

#[test]
fn nothing_that_reads_requests_can_decompress_them() {
    let tree = Tree::read();
    assert_eq!(intruders(&tree, &READERS_OF_REQUESTS, &DECOMPRESSORS), NOTHING);
    let planted = tree.with_edge("actix-http", "zstd");
    assert!(
        intruders(&planted, &READERS_OF_REQUESTS, &DECOMPRESSORS).contains(&"`actix-http` comes to depend on `zstd`".to_owned())
    );
}

#[test]
fn what_is_made_for_tests_is_not_shipped() {
    let tree = Tree::read();
    assert!(tree.members.iter().any(|member| member.name == TESTING));
    assert_eq!(shipped_tests(&tree), NOTHING);
    let planted = tree.with_edge("dunnage-files", TESTING);
    let found = shipped_tests(&planted);
    assert!(found.contains(&format!("`dunnage-cli` comes to depend on `{TESTING}`")), "{found:?}");
}

#[test]
fn the_runtimes_know_nothing_of_each_other() {
    let tree = Tree::read();
    assert_eq!(acquainted_runtimes(&tree), NOTHING);
    let planted = tree.with_edge("dunnage-lua", "dunnage-python");
    assert_eq!(acquainted_runtimes(&planted), ["`dunnage-lua` comes to depend on `dunnage-python`"]);
}

#[test]
fn every_licence_is_permissive() {
    let mut tree = Tree::read();
    assert_eq!(unusual_licences(&tree), NOTHING);
    tree.licences.insert("serde".to_owned(), Some("GPL-3.0-only".to_owned()));
    tree.licences.insert("bytes".to_owned(), None);
    assert_eq!(unusual_licences(&tree), ["`bytes` has the licence `none`", "`serde` has the licence `GPL-3.0-only`"]);
}

#[test]
fn a_licence_is_read_as_it_is_meant() {
    for permissive in
        ["MIT", "Apache-2.0 / MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR GPL-3.0) AND Unicode-3.0", "ISC AND MIT"]
    {
        assert!(is_permissive(permissive), "{permissive}");
    }
    for other in
        ["", "none", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "(GPL-3.0 OR AGPL-3.0) AND MIT", "LGPL-2.1/MPL-2.0"]
    {
        assert!(!is_permissive(other), "{other}");
    }
}

#[test]
fn every_crate_follows_the_workspace() {
    let mut tree = Tree::read();
    assert_eq!(deviations(&tree), NOTHING);
    let first = &mut tree.members[0];
    first.manifest.remove("lints");
    first.edition = "2021".to_owned();
    tree.licences.insert(first.name.clone(), Some("MIT".to_owned()));
    assert_eq!(deviations(&tree).len(), 3);
}
