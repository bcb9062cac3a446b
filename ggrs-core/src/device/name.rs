//! Device names as users write them.

use std::fmt;
use std::str::FromStr;

use crate::DeviceError;

/// `backend`, `backend:index` or `backend:index/members`: `cpu`, `cuda:1`, `cpu:0/2` (member 0 of the CPU cut in two).
/// A device made of several shows its members' names: `cpu:0/2+cpu:1/2`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceName {
    /// The backend; of a device made of several, the members' names.
    pub backend: String,
    /// Which of its devices.
    pub index: usize,
    /// Into how many members the device is cut; 1 if it is whole.
    pub members: usize,
}

/// Stands between the names of a device's members; no backend's name has it.
const JOINT: char = '+';

impl DeviceName {
    /// The name of a device made of these; a single one keeps its name.
    pub fn joined(members: &[Self]) -> Self {
        if let [one] = members {
            return one.clone();
        }
        let names: Vec<String> = members.iter().map(ToString::to_string).collect();
        Self {
            backend: names.join(&JOINT.to_string()),
            index: 0,
            members: 1,
        }
    }

    /// Is it the name of a device made of several?
    pub fn is_joined(&self) -> bool {
        self.backend.contains(JOINT)
    }
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let bad = || DeviceError::BadName {
            text: text.to_owned(),
        };
        let (backend, rest) = text.split_once(':').unwrap_or((text, "0"));
        let (index, members) = rest.split_once('/').unwrap_or((rest, "1"));
        let index = index.parse().map_err(|_| bad())?;
        let members = members.parse().map_err(|_| bad())?;
        let is_word = !backend.is_empty() && backend.chars().all(|c| c.is_ascii_alphanumeric());
        if !is_word || members == 0 || (members > 1 && index >= members) {
            return Err(bad());
        }
        Ok(Self {
            backend: backend.to_owned(),
            index,
            members,
        })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_joined() {
            return f.write_str(&self.backend);
        }
        write!(f, "{}:{}", self.backend, self.index)?;
        if self.members > 1 {
            write!(f, "/{}", self.members)?;
        }
        Ok(())
    }
}

impl serde::Serialize for DeviceName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (text, shown) in [
            ("cpu", "cpu:0"),
            ("cuda:1", "cuda:1"),
            ("cpu:1/2", "cpu:1/2"),
        ] {
            assert_eq!(text.parse::<DeviceName>().unwrap().to_string(), shown);
        }
        let parts = ["cpu:0/2", "cuda:1"].map(|n| n.parse().unwrap());
        let joined = DeviceName::joined(&parts);
        assert_eq!(joined.to_string(), "cpu:0/2+cuda:1");
        assert!(joined.is_joined() && !DeviceName::joined(&parts[..1]).is_joined());
        for text in [
            "", ":0", "cpu:", "cpu:x", "cpu:2/2", "cpu:0/0", "c pu", "cpu:0/",
        ] {
            assert!(text.parse::<DeviceName>().is_err(), "{text}");
        }
    }
}
