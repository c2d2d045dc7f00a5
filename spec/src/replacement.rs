//! A new file that takes its path's place when it is complete.
//!
//! Until then, and if anything fails, what stands there stays as it was. A link stays a link: what it leads to is replaced. A
//! device, a named pipe or a folder is refused, since a file in its place would take it away.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::Error;

/// Links followed at most; the system follows no more.
const MOST_LINKS: usize = 40;

/// A new file, removed unless it takes its path's place.
#[derive(Debug)]
pub struct Replacement {
    path: PathBuf,
    place: PathBuf,
    pub(crate) file: NamedTempFile,
}

impl Replacement {
    /// An empty file in the folder where it is to stand.
    ///
    /// # Errors
    /// `Path` where something else than a file stands there; `Io` where the system refuses: no such folder, a folder or a file
    /// that may not be written.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let place = place(path)?;
        let mut builder = tempfile::Builder::new();
        // As any new file, not for the owner's eyes only; the umask applies.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let folder = folder_of(&place);
        // The name of the new file, which the error has too, says nothing to anyone.
        let reason = |error: io::Error| in_folder(folder, &error.kind().into());
        let file = builder.prefix(".fwpkm-").tempfile_in(folder);
        let file = file.map_err(|error| Error::io(path, "write", &reason(error)))?;
        Ok(Self { path: path.to_owned(), place, file })
    }

    /// Where it is to stand, by the one name that every path to it has.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Takes the place, and the permissions of what stood there.
    ///
    /// # Errors
    /// As [`Replacement::create`].
    pub fn persist(self) -> Result<(), Error> {
        let refused = |error: io::Error| Error::io(&self.path, "write", &error);
        // What stands there may be another thing than before.
        place(&self.path)?;
        if let Ok(before) = fs::metadata(&self.place) {
            self.file.as_file().set_permissions(before.permissions()).map_err(refused)?;
        }
        self.file.persist(&self.place).map_err(|error| refused(error.error))?;
        Ok(())
    }
}

/// Fills a new file, which then takes the path's place.
///
/// # Errors
/// As [`Replacement::create`], and what `fill` gives.
pub fn replace(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let mut replacement = Replacement::create(path)?;
    let mut out = BufWriter::new(&mut replacement.file);
    fill(&mut out).and_then(|()| out.flush()).map_err(|error| Error::io(path, "write", &error))?;
    drop(out);
    replacement.persist()
}

/// Where a file of that path stands or would stand: no link, in a folder without links.
fn place(path: &Path) -> Result<PathBuf, Error> {
    let refused = |found: &str| {
        let expected = "a file, or the name of a new one";
        Err(Error::Path { path: path.to_owned(), expected, found: found.to_owned() })
    };
    let unwritable = |error: &io::Error| Error::io(path, "write", error);
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => return refused(kind(&found)),
        // Opened and left as it is: whether it may be written.
        Ok(_) => drop(fs::File::options().append(true).open(path).map_err(|error| unwritable(&error))?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unwritable(&error)),
    }
    let mut place = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&place) else { break };
        place = folder_of(&place).join(target);
    }
    if place.as_os_str().to_string_lossy().ends_with(std::path::is_separator) {
        return refused("the name of a folder");
    }
    let Some(name) = place.file_name() else { return refused("the name of a folder") };
    let folder = folder_of(&place);
    let folder = folder.canonicalize().map_err(|error| unwritable(&in_folder(folder, &error)))?;
    Ok(folder.join(name))
}

fn in_folder(folder: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", folder.display()))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What stands where a file should, in words.
fn kind(found: &fs::Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = found.file_type();
        if kind.is_fifo() {
            return "a named pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if found.is_dir() { "a folder" } else { "something else" }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use tempfile::tempdir;

    use super::*;

    fn written(path: &Path) -> Result<(), Error> {
        replace(path, |out| out.write_all(b"new"))
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let folder = tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("below")).unwrap();
        fs::write(path("below/target"), "old").unwrap();
        symlink("below/target", path("link")).unwrap();
        symlink("link", path("link of a link")).unwrap();
        symlink("below/nothing yet", path("dangling")).unwrap();
        for (link, target) in
            [("link", "below/target"), ("link of a link", "below/target"), ("dangling", "below/nothing yet")]
        {
            let _ = fs::write(path("below/target"), "old");
            written(&path(link)).unwrap();
            assert!(path(link).is_symlink());
            assert_eq!(fs::read_to_string(path(target)).unwrap(), "new", "{link}");
        }
        assert_eq!(fs::read_dir(path("below")).unwrap().count(), 2);
        symlink("circle", path("circle")).unwrap();
        assert!(matches!(written(&path("circle")), Err(Error::Io { .. })));
    }

    #[test]
    fn what_is_no_file_is_refused_and_stays() {
        let folder = tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        symlink("/dev/null", path("link to a device")).unwrap();
        for (path, what) in [
            (path("socket"), "a socket"),
            (path("link to a device"), "a device"),
            (folder.path().into(), "a folder"),
            (path("new/"), "the name of a folder"),
        ] {
            let Err(Error::Path { found, .. }) = written(&path) else { panic!("{} was written", path.display()) };
            assert_eq!(found, what);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_missing_folder_and_a_path_below_a_file_are_named() {
        let folder = tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "").unwrap();
        let error = Replacement::create(&path("no/such")).unwrap_err().to_string();
        assert!(error.contains("no/such: cannot write") && error.contains("/no: "), "{error}");
        let error = Replacement::create(&path("file/below")).unwrap_err().to_string();
        assert!(error.contains("file/below: cannot write"), "{error}");
    }

    #[test]
    fn permissions_stay_as_they_were() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("private");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        written(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn every_path_to_a_file_has_one_place() {
        let folder = tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("below")).unwrap();
        symlink("below", path("link")).unwrap();
        let place = |name: &str| Replacement::create(&path(name)).unwrap().place().to_owned();
        assert_eq!(place("below/x"), place("link/x"));
        assert_eq!(place("below/x"), place("link/../below/./x"));
    }
}
