# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of every store of a platform's secrets, on a host and in a cluster."""

from __future__ import annotations


class ModuleDocFragment:
    """Which secrets there are, and what the inventory gives of them."""

    DOCUMENTATION = r"""
options:
  secrets:
    description:
      - The secrets that there must be. A secret that the store holds and that is not listed is kept.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What the secret is called, in lower case letters, digits and underscores.
        type: str
        required: true
      kind:
        description:
          - V(password) and V(token) are letters and digits, V(access_key) upper case letters and digits,
            V(hex) hexadecimal digits.
          - V(private_key) is an elliptic curve key (P-256) in PEM.
          - V(bcrypt) is the hash of the secret in O(secrets[].of). V(given) comes from O(values) alone.
          - V(authority) is the self-signed certificate of the key in O(secrets[].of), valid for ten years.
          - V(certificate) is the certificate of the key in O(secrets[].of) that O(secrets[].issuer) signs, for servers
            and clients on loopback, valid for 397 days.
          - Certificates are renewed by the first run in the last third of their lifetime.
        type: str
        required: true
        choices: [password, access_key, token, hex, private_key, bcrypt, authority, certificate, given]
      length:
        description:
          - Characters of a generated value, as many as a given value of the kind may have and at most 1024.
          - By default 32 for V(password), 20 for V(access_key), 48 for V(token), 64 for V(hex).
        type: int
      of:
        description:
          - The secret that a V(bcrypt) hash is made from; the private key of an V(authority) or a V(certificate).
        type: str
      issuer:
        description: The secret of kind V(authority) that signs a V(certificate).
        type: str
      common_name:
        description: The common name in the subject of an V(authority) or a V(certificate).
        type: str
      form:
        description:
          - Form of the value of a secret of kind V(given). V(text) is at least 8 printable characters in one line,
            V(http_url) is an address that begins with C(http://) or C(https://) and holds no user name.
          - By default V(text).
        type: str
        choices: [text, http_url]
      optional:
        description: Whether a secret of kind V(given) may be left out of O(values). It is then reported in RV(missing).
        type: bool
        default: false
      services:
        description: The services that may read the secret. Not used here; accepted with the catalogue's description.
        type: list
        elements: str
        default: []
  values:
    description:
      - Secrets that the inventory gives, by name. They win over generated values and are not rotated.
      - A value of kind V(password) is at least 8 printable ASCII characters with blanks only inside, of kind V(token)
        at least 16 letters, digits and C(-._~+/) with C(=) at its end, of kind V(access_key) 16 to 128 letters, digits
        and C(_), of kind V(hex) at least 32 hexadecimal digits. A value that is hashed has at most 72 bytes.
      - A value that is empty counts as not given. What is no longer given is kept, unless its kind is V(given).
    type: dict
    default: {}
  rotate:
    description: Generate every secret anew that O(values) does not give.
    type: bool
    default: false
"""
