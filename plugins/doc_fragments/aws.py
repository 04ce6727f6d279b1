# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of everything that calls AWS, spelled as in amazon.aws."""

from __future__ import annotations


class ModuleDocFragment:
    """How AWS is reached."""

    DOCUMENTATION = r"""
options:
  region:
    description: The region. By default E(AWS_REGION), E(AWS_DEFAULT_REGION), or what the profile says.
    type: str
    aliases: [aws_region]
  profile:
    description: A profile of the AWS configuration files. By default E(AWS_PROFILE).
    type: str
    aliases: [aws_profile]
  access_key:
    description: The access key. By default whatever boto3 finds in the environment, the files or the machine's role.
    type: str
    aliases: [aws_access_key_id, aws_access_key]
  secret_key:
    description: The secret key that belongs to O(access_key).
    type: str
    aliases: [aws_secret_access_key, aws_secret_key]
  session_token:
    description: The token that belongs to temporary credentials.
    type: str
    aliases: [aws_session_token]
  assume_role_arn:
    description: A role that is assumed with these credentials before anything else; renewed when it expires.
    type: str
  external_id:
    description: The external id that the trust policy of O(assume_role_arn) asks for.
    type: str
  role_session_name:
    description:
      - The session name under which O(assume_role_arn) is assumed, as CloudTrail records it. V(crypto-lakehouse) by
        default.
    type: str
  endpoint_url:
    description: Where the APIs are, if not at AWS. By default E(AWS_ENDPOINT_URL).
    type: str
    aliases: [aws_endpoint_url]
  validate_certs:
    description: Whether certificates are checked.
    type: bool
    default: true
  aws_ca_bundle:
    description: A file with the certificate authorities to trust. By default E(AWS_CA_BUNDLE).
    type: path
  parallelism:
    description: How many calls may be under way at once.
    type: int
    default: 16
requirements:
  - boto3
"""
