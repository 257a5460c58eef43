//! Images as an attacker or a worn flash would leave them: one byte changed in each part, cut short, or signed by a
//! stranger. Each has its own name, which is also the instance that would start from it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use yado_image::header::{BLOCK_BYTES, Layout};
use yado_image::open::read_header;

/// What was done to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tampering {
    /// One byte of the file system.
    Payload,
    /// One byte of the hash tree.
    Tree,
    /// One byte of the manifest.
    Manifest,
    /// One byte of the header, in a file that still has the name of what it was.
    Header,
    /// One byte of the header, in a file that has the name of what it is: a fingerprint is the header's own digest, and whoever
    /// changes the header can change the file's name too. Only the signature tells.
    RenamedHeader,
    /// One byte of the signatures.
    Signature,
    /// Signed well, by a key that nobody trusts.
    UnknownKey,
    /// The last part is missing.
    Truncated,
}

impl Tampering {
    /// Every kind.
    pub const ALL: [Tampering; 8] = [
        Tampering::Payload,
        Tampering::Tree,
        Tampering::Manifest,
        Tampering::Header,
        Tampering::RenamedHeader,
        Tampering::Signature,
        Tampering::UnknownKey,
        Tampering::Truncated,
    ];

    /// The name of the instance and of its image's alias.
    pub fn instance(self) -> &'static str {
        match self {
            Tampering::Payload => "tampered-payload",
            Tampering::Tree => "tampered-tree",
            Tampering::Manifest => "tampered-manifest",
            Tampering::Header => "tampered-header",
            Tampering::RenamedHeader => "renamed-header",
            Tampering::Signature => "tampered-signature",
            Tampering::UnknownKey => "unknown-key",
            Tampering::Truncated => "truncated",
        }
    }

    /// The step at which its start must be refused.
    pub fn refused_at(self) -> &'static str {
        match self {
            Tampering::Payload => "image-payload",
            Tampering::Tree => "image-tree",
            Tampering::Manifest => "image-manifest",
            Tampering::Header | Tampering::Truncated => "image-header",
            Tampering::RenamedHeader | Tampering::Signature | Tampering::UnknownKey => "image-signature",
        }
    }

    /// A part of the reason that must be told. It names the check that refused it: an earlier one would say something else.
    pub fn reason(self) -> &'static str {
        match self {
            Tampering::Payload => "block 0 of the payload was changed",
            Tampering::Tree => "hash tree was changed",
            Tampering::Manifest => "the manifest was changed",
            Tampering::Header => "the fingerprint is ",
            Tampering::RenamedHeader | Tampering::Signature => "does not fit the header: one of them was changed",
            Tampering::UnknownKey => "signed only by keys that are not trusted here",
            Tampering::Truncated => "no image header in the last 4 KiB",
        }
    }

    /// Whether it is done before the image is put under its fingerprint; otherwise to the file that has that name already.
    pub fn is_before_naming(self) -> bool {
        match self {
            Tampering::RenamedHeader => true,
            Tampering::Payload
            | Tampering::Tree
            | Tampering::Manifest
            | Tampering::Header
            | Tampering::Signature
            | Tampering::UnknownKey
            | Tampering::Truncated => false,
        }
    }

    /// Does it to an image that was good so far.
    pub fn apply(self, image: &Path) -> io::Result<()> {
        let file = File::options().read(true).write(true).open(image)?;
        let (header, _) = read_header(&file).map_err(|error| io::Error::other(error.to_string()))?;
        let layout = header.layout;
        match self {
            Tampering::Payload => flip(&file, PAYLOAD_OFFSET),
            Tampering::Tree => flip(&file, layout.tree_offset() + 7),
            Tampering::Manifest => flip(&file, layout.manifest_offset() + u64::from(layout.manifest_bytes()) / 2),
            Tampering::Header | Tampering::RenamedHeader => flip(&file, layout.header_offset() + ROOT_HASH_OFFSET),
            Tampering::Signature => flip(&file, layout.signatures_offset() + SIGNATURE_OFFSET),
            Tampering::UnknownKey => Ok(()),
            Tampering::Truncated => file.set_len(truncated_bytes(&layout)),
        }
    }
}

/// In the first block, which every mount reads; a block that nobody reads is refused only when somebody does.
const PAYLOAD_OFFSET: u64 = 1500;
/// Inside the root hash.
const ROOT_HASH_OFFSET: u64 = 40;
/// Inside the first signature's own bytes, behind its algorithm and key id.
const SIGNATURE_OFFSET: u64 = 64 + 20;

/// The header, which is last, and a part of the signatures are gone.
fn truncated_bytes(layout: &Layout) -> u64 {
    layout.image_bytes() - 2 * BLOCK_BYTES
}

fn flip(file: &File, offset: u64) -> io::Result<()> {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    byte[0] ^= 0x10;
    file.write_all_at(&byte, offset)
}
