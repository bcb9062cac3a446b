//! Where tests find third-party data, which is not copied into the repository. Knows nothing of
//! what the data is.

use std::env;
use std::path::PathBuf;

/// The path of a shared fixture: in `$GGRS_SHARED`, or beside the repository in `../shared`.
///
/// Where it is absent the caller has to skip its test: that is printed, and fails with `CI=true`.
#[allow(clippy::print_stdout, reason = "a skip must be seen")]
pub(crate) fn shared_fixture(relative: &str) -> Option<PathBuf> {
    let shared = env::var_os("GGRS_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")),
        PathBuf::from,
    );
    let path = shared.join("fixtures").join(relative);
    if path.exists() {
        return Some(path);
    }
    assert!(
        env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{} is absent: set GGRS_SHARED to the folder that holds `fixtures`",
        path.display()
    );
    println!("SKIPPED: {} is absent", path.display());
    None
}
