//! What this host shows of itself, for sealing the container to it.
//!
//! Read from the kernel's and the operating system's files; nothing is run and
//! nothing needs root, though board serials are readable by root alone. What
//! virtual machines and containers do not have, or all have alike, is left out.

use std::fs;
use std::path::{Path, PathBuf};

use license::traits::{Trait, TraitKind, Traits};
use sha2::{Digest as _, Sha256};

/// Longest value that is read, in bytes; identifiers are far shorter.
const VALUE_MAX: usize = 256;

/// What vendors write where they have nothing to say.
const PLACEHOLDERS: [&str; 9] = [
    "none",
    "unknown",
    "uninitialized",
    "not specified",
    "not applicable",
    "default string",
    "system serial number",
    "to be filled by o.e.m.",
    "0123456789",
];

/// The traits of the host whose file system begins at `root`, and of the key
/// file with these contents.
pub fn gather(root: &Path, key_file: Option<&[u8]>) -> Traits {
    let key = key_file.map(|contents| {
        let digest: [u8; 32] = Sha256::digest(contents).into();
        Trait::new(TraitKind::KeyFile, "key file", digest)
    });
    let machine_id = value(&root.join("etc/machine-id"))
        .map(|value| Trait::new(TraitKind::MachineId, "machine id", value));
    let shown = machine_id.into_iter().chain(boards(root)).chain(disks(root)).chain(networks(root));
    Traits::of(shown.chain(key))
}

fn boards(root: &Path) -> impl Iterator<Item = Trait> {
    let dmi = root.join("sys/class/dmi/id");
    let files = [("product_uuid", "system id"), ("board_serial", "board serial")];
    files
        .into_iter()
        .filter_map(move |(file, name)| Some((name, value(&dmi.join(file))?)))
        .map(|(name, value)| Trait::new(TraitKind::Board, name, value))
}

/// Disks that stand on a device; loop devices and volumes do not.
fn disks(root: &Path) -> impl Iterator<Item = Trait> {
    devices(&root.join("sys/block")).into_iter().filter_map(|(name, dir)| {
        let files = ["serial", "device/serial", "wwid", "device/wwid"];
        let found = files.into_iter().find_map(|file| value(&dir.join(file)))?;
        Some(Trait::new(TraitKind::Disk, &format!("disk {name}"), found))
    })
}

/// Interfaces that stand on a device; bridges, tunnels and a pod's end of a
/// virtual cable do not.
fn networks(root: &Path) -> impl Iterator<Item = Trait> {
    devices(&root.join("sys/class/net")).into_iter().filter_map(|(name, dir)| {
        // A bond gives all its interfaces one address; this is their own.
        let files = ["bonding_slave/perm_hwaddr", "address"];
        let found = files.into_iter().find_map(|file| value(&dir.join(file)))?;
        Some(Trait::new(TraitKind::Network, &format!("address of {name}"), found))
    })
}

/// The entries of a folder that stand on a device, by name.
fn devices(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .filter(|(_, path)| path.join("device").exists())
        .collect();
    found.sort();
    found
}

/// The identifier in a file, if it is one.
fn value(path: &Path) -> Option<Vec<u8>> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim().to_lowercase();
    let digits = || text.chars().filter(char::is_ascii_alphanumeric);
    let says_nothing = |same: char| digits().all(|digit| digit == same);
    let is_empty = says_nothing('0') || says_nothing('f') || says_nothing('x');
    let is_placeholder = PLACEHOLDERS.contains(&text.as_str());
    (!is_empty && !is_placeholder && text.len() <= VALUE_MAX).then(|| text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn labels(traits: &Traits) -> Vec<&str> {
        traits.iter().map(Trait::label).collect()
    }

    #[test]
    fn a_physical_host_shows_all_it_has() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        put(root, "etc/machine-id", "3d1219c7c4c5404aaa1f6d2a48adfda4\n");
        put(root, "sys/class/dmi/id/product_uuid", "B5A4C3D2-11EE-4C7B-9F00-A1B2C3D4E5F6\n");
        put(root, "sys/class/dmi/id/board_serial", "PF1AB2CD\n");
        put(root, "sys/block/nvme0n1/device/serial", "S4EVNX0R\n");
        put(root, "sys/class/net/eth0/device/vendor", "0x8086\n");
        put(root, "sys/class/net/eth0/address", "52:54:00:12:34:56\n");
        let traits = gather(root, Some(b"thirty-two random bytes"));
        assert_eq!(
            labels(&traits),
            [
                "machine id",
                "board serial",
                "system id",
                "disk nvme0n1",
                "address of eth0",
                "key file"
            ]
        );
    }

    /// Loop devices, bridges and a pod's network have no device under them;
    /// what a vendor left blank is no serial.
    #[test]
    fn what_is_virtual_or_blank_is_left_out() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        put(root, "sys/block/loop0/serial", "x1\n");
        put(root, "sys/class/net/docker0/address", "02:42:00:11:22:33\n");
        put(root, "etc/machine-id", "uninitialized\n");
        put(root, "sys/class/dmi/id/board_serial", "To be filled by O.E.M.\n");
        put(root, "sys/class/dmi/id/product_uuid", "00000000-0000-0000-0000-000000000000\n");
        assert_eq!(labels(&gather(root, None)), Vec::<&str>::new());
    }

    #[test]
    fn a_bonded_interface_is_known_by_its_own_address() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        for (name, own) in [("eth0", "52:54:00:00:00:01"), ("eth1", "52:54:00:00:00:02")] {
            put(root, &format!("sys/class/net/{name}/device/vendor"), "0x8086\n");
            put(root, &format!("sys/class/net/{name}/address"), "52:54:00:00:00:01\n");
            put(root, &format!("sys/class/net/{name}/bonding_slave/perm_hwaddr"), own);
        }
        assert_eq!(labels(&gather(root, None)), ["address of eth0", "address of eth1"]);
    }
}
