# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of modules that connect to AWS, with the names of amazon.aws."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of an AWS connection."""

    DOCUMENTATION = r"""
options:
  region:
    description: Region. By default E(AWS_REGION), E(AWS_DEFAULT_REGION), or the region of the profile.
    type: str
    aliases: [aws_region]
  profile:
    description: Profile of the AWS configuration files. By default E(AWS_PROFILE).
    type: str
    aliases: [aws_profile]
  access_key:
    description: AWS access key. By default the credentials that boto3 finds in environment, files or machine role.
    type: str
    aliases: [aws_access_key_id, aws_access_key]
  secret_key:
    description: Secret key of O(access_key).
    type: str
    aliases: [aws_secret_access_key, aws_secret_key]
  session_token:
    description: Session token of temporary credentials.
    type: str
    aliases: [aws_session_token]
  assume_role_arn:
    description: ARN of the role to assume with these credentials. Its session is renewed when it expires.
    type: str
  external_id:
    description: External id that the trust policy of O(assume_role_arn) requires.
    type: str
  role_session_name:
    description:
      - Session name for O(assume_role_arn), which CloudTrail records. V(crypto-lakehouse) by default.
    type: str
  endpoint_url:
    description: Endpoint of the AWS APIs, for an emulator. By default E(AWS_ENDPOINT_URL).
    type: str
    aliases: [aws_endpoint_url]
  validate_certs:
    description: Whether to verify certificates.
    type: bool
    default: true
  aws_ca_bundle:
    description: File of certificate authorities to trust. By default E(AWS_CA_BUNDLE).
    type: path
  parallelism:
    description: Maximum number of concurrent calls.
    type: int
    default: 16
requirements:
  - boto3
"""
