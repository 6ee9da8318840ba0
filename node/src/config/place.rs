//! One way to write a path down: messages and logs are read in another folder than
//! the process runs in.

use std::path::{Component, Path, PathBuf};

/// `path`, absolute and without `.` and `..`. Where `..` leaves a symbolic link it
/// stays, because without it the path would lead elsewhere.
pub fn place(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut place = PathBuf::new();
    for component in absolute.components() {
        let goes_up =
            component == Component::ParentDir && !place.ends_with("..") && !place.is_symlink();
        // The root has no parent and is its own.
        if !goes_up {
            place.push(component);
        } else if place.parent().is_some() {
            place.pop();
        }
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_absolute_and_plain_and_leads_where_the_path_did() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().canonicalize().expect("it is there");
        std::fs::create_dir_all(dir.join("real/etc")).expect("made");
        std::os::unix::fs::symlink(dir.join("real/etc"), dir.join("etc")).expect("made");
        assert_eq!(place(&dir.join("./node-1/../pki/./ca.pem")), dir.join("pki/ca.pem"));
        assert_eq!(place(&dir.join("real/etc/../../pki")), dir.join("pki"));
        let through_a_link = dir.join("etc/../pki/ca.pem");
        assert_eq!(place(&through_a_link), through_a_link, "it is real/pki/ca.pem");
        assert_eq!(place(Path::new("/../etc")), Path::new("/etc"));
        let here = std::path::absolute("node.toml").expect("a folder");
        assert_eq!(place(Path::new("data/../node.toml")), here);
    }
}
