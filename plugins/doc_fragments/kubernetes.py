# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of modules that connect to a cluster, with the names of kubernetes.core."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of a cluster connection."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Kubeconfig, as a path (several are separated by C(:)) or as data.
      - By default E(K8S_AUTH_KUBECONFIG), E(KUBECONFIG), C(~/.kube/config), or the service account of the pod.
    type: raw
  context:
    description: Context of the kubeconfig. The default is E(K8S_AUTH_CONTEXT), or its current context.
    type: str
  host:
    description: Address of the API server, like C(https://10.0.0.1:6443). By default E(K8S_AUTH_HOST).
    type: str
  api_key:
    description: Bearer token. By default E(K8S_AUTH_API_KEY).
    type: str
  username:
    description: User name for basic authentication. By default E(K8S_AUTH_USERNAME).
    type: str
  password:
    description: Password of O(username). By default E(K8S_AUTH_PASSWORD).
    type: str
  client_cert:
    description: File with a client certificate. By default E(K8S_AUTH_CERT_FILE).
    type: path
    aliases: [cert_file]
  client_key:
    description: File with the key of O(client_cert). By default E(K8S_AUTH_KEY_FILE), or the file of O(client_cert).
    type: path
    aliases: [key_file]
  ca_cert:
    description: File of certificate authorities to trust. By default E(K8S_AUTH_SSL_CA_CERT).
    type: path
    aliases: [ssl_ca_cert]
  tls_server_name:
    description:
      - Expected name in the server's certificate. The hostname of its address when not set.
      - By default E(K8S_AUTH_TLS_SERVER_NAME).
    type: str
  validate_certs:
    description: Whether to verify the server's certificate. By default E(K8S_AUTH_VERIFY_SSL), or V(true).
    type: bool
    aliases: [verify_ssl]
  proxy:
    description: Address of an HTTP proxy. By default E(K8S_AUTH_PROXY), the kubeconfig, or E(HTTPS_PROXY).
    type: str
  no_proxy:
    description: Comma-separated hosts that bypass the proxy. By default E(K8S_AUTH_NO_PROXY).
    type: str
  proxy_headers:
    description: Headers for O(proxy).
    type: dict
    suboptions:
      basic_auth:
        description: C(user:password). By default E(K8S_AUTH_PROXY_HEADERS_BASIC_AUTH).
        type: str
      proxy_basic_auth:
        description: C(user:password) for the proxy itself. By default E(K8S_AUTH_PROXY_HEADERS_PROXY_BASIC_AUTH).
        type: str
      user_agent:
        description: User agent. By default E(K8S_AUTH_PROXY_HEADERS_USER_AGENT).
        type: str
  impersonate_user:
    description: User to impersonate. By default E(K8S_AUTH_IMPERSONATE_USER).
    type: str
  impersonate_groups:
    description: Groups to impersonate, in addition to O(impersonate_user). By default E(K8S_AUTH_IMPERSONATE_GROUPS).
    type: list
    elements: str
  eks_cluster:
    description:
      - Name of an EKS cluster. Its address and certificate authority are read from AWS. The module creates tokens and
        renews them before they expire, without the AWS CLI.
    type: str
  region:
    description:
      - Region of O(eks_cluster).
      - By default E(AWS_REGION), E(AWS_DEFAULT_REGION), or the region of the profile.
    type: str
    aliases: [aws_region]
  profile:
    description: Profile of the AWS configuration files. By default E(AWS_PROFILE).
    type: str
    aliases: [aws_profile]
  access_key:
    description: AWS access key. By default the credentials that boto3 finds.
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
    description: ARN of the role to assume for EKS calls and tokens.
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
  aws_ca_bundle:
    description: File of certificate authorities to trust for AWS. By default E(AWS_CA_BUNDLE).
    type: path
requirements:
  - kubernetes (the module uses its dependencies urllib3 and PyYAML)
  - boto3, with O(eks_cluster)
"""
