//! Answers that are long enough to come beside the socket.

use serde_json::json;

use crate::fixture::{PATIENCE, Site, request, soon};

/// Long enough for a file of their own.
const LENGTH: usize = 5 << 20;

/// Whether this process has a payload of a worker mapped.
fn has_mapping() -> bool {
    std::fs::read_to_string("/proc/self/maps").unwrap().contains("memfd:dunnage-payload")
}

#[tokio::test]
async fn long_answers_arrive_whatever_their_worker_may_open() {
    let site = Site::new();
    // In the end there is no descriptor left, or a file may have a block at most.
    for (command, act, is_mapped) in [
        ("true", "nothing", true),
        ("ulimit -n 20", "nothing", true),
        ("ulimit -n 20", "open", false),
        ("ulimit -f 1", "nothing", false),
    ] {
        let mut worker = site.start(&site.runtime_after(command), PATIENCE).await.unwrap();
        worker.output(vec![request(json!({"do": act}))], soon(), &*site.host).await.unwrap();
        for x in [1.5, 2.5] {
            let asked = request(json!({"do": "large", "length": LENGTH, "x": x}));
            let vectors = worker.output(vec![asked], soon(), &*site.host).await.unwrap();
            let vector = vectors[0].as_ref().unwrap();
            assert_eq!((vector.len(), has_mapping()), (LENGTH, is_mapped), "{command}, {act}");
            assert!(vector.bytes().as_chunks().0.iter().all(|bytes| f64::from_le_bytes(*bytes) == x), "{command}, {act}");
        }
        worker.stop().await;
        assert!(!has_mapping());
    }
}
