# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of secret stores, on a host and in a cluster."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of described secrets and their values."""

    DOCUMENTATION = r"""
options:
  secrets:
    description:
      - Described secrets. Undescribed secrets in the store are kept.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the secret, with lower case letters, digits and underscores.
        type: str
        required: true
      kind:
        description:
          - V(password) and V(token) are letters and digits, V(access_key) upper case letters and digits,
            V(hex) hexadecimal digits.
          - V(private_key) is an elliptic curve key (P-256) in PEM.
          - V(bcrypt) is the hash of the secret in O(secrets[].of). V(given) is set in O(values) only.
          - V(authority) is the self-signed certificate of the key in O(secrets[].of), valid for ten years.
          - V(certificate) is the certificate of the key in O(secrets[].of) that O(secrets[].issuer) signs, for servers
            and clients on loopback, valid for 397 days.
          - The first run in the last third of their lifetime renews certificates.
        type: str
        required: true
        choices: [password, access_key, token, hex, private_key, bcrypt, authority, certificate, given]
      length:
        description:
          - Length of a generated value in characters, within the limits of the kind and at most 1024.
          - By default 32 for V(password), 20 for V(access_key), 48 for V(token), 64 for V(hex).
        type: int
      of:
        description:
          - Source secret of a V(bcrypt) hash, or private key of an V(authority) or a V(certificate).
        type: str
      issuer:
        description: Secret of kind V(authority) that signs a V(certificate).
        type: str
      common_name:
        description: Common name in the subject of an V(authority) or a V(certificate).
        type: str
      form:
        description:
          - Form of the value of a secret of kind V(given). V(text) is at least 8 printable characters in one line.
            V(http_url) is an address that begins with C(http://) or C(https://) and does not contain a user name.
          - By default V(text).
        type: str
        choices: [text, http_url]
      optional:
        description: Whether to accept that O(values) lacks a secret of kind V(given). RV(missing) then contains it.
        type: bool
        default: false
      services:
        description: Services that may read the secret. Ignored; accepted with the catalogue's description.
        type: list
        elements: str
        default: []
  values:
    description:
      - Values of the inventory, by name of the secret. They take precedence over generated values and are not rotated.
      - V(password) is at least 8 printable ASCII characters, without blanks at its start and end. V(token) is at least
        16 letters, digits and C(-._~+/), with C(=) only at its end. V(access_key) is 16 to 128 letters, digits and
        C(_). V(hex) is at least 32 hexadecimal digits. A value that is hashed has at most 72 bytes.
      - An empty value counts as missing. A stored value is kept when it is removed here, unless its kind is V(given).
    type: dict
    default: {}
  rotate:
    description: Whether to generate new values for all secrets that are not in O(values).
    type: bool
    default: false
"""
