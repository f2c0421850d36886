data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  region    = data.aws_region.this.name
  tunnel    = var.appliances[0].tunnel
  directory = var.appliances[0].directory
  tenants   = merge(var.appliances[*].tenants...)
  key_file  = "/etc/portway/host.key"
  ca_file   = try(local.directory.ca, null) == null ? null : "/etc/portway/directory-ca.pem"

  tenant_configs = {
    for host in keys(var.hosts) : host => [
      for name, tenant in local.tenants : { for key, value in {
        name  = name
        key   = tenant.key
        cidrs = tenant.cidrs
        # A directory says which shards there are.
        shards = local.directory != null ? null : [
          for shard in tenant.shards : { for key, value in {
            shard     = shard.shard
            gateway   = shard.gateway
            inner     = shard.inner[host]
            wireguard = local.tunnel == "gre" ? null : { public_key = shard.public_key, port = shard.port }
          } : key => value if value != null }
        ]
      } : key => value if value != null }
    ]
  }
  configs = {
    for name, host in var.hosts : name => yamlencode({
      host = { for key, value in {
        node      = name
        platform  = { interface = "@primary_interface@", address = host.outer }
        tunnel    = local.tunnel
        wireguard = local.tunnel == "gre" || local.directory != null ? null : { private_key = local.key_file }
        directory = local.directory == null ? null : { for key, value in { url = local.directory.url, ca = local.ca_file } : key => value if value != null }
        tenants   = local.tenant_configs[name]
      } : key => value if value != null }
    })
  }

  secret_arns = compact(concat(values(var.hosts)[*].private_key, values(var.hosts)[*].enroll_token))
}

module "boot" {
  source   = "../boot"
  for_each = local.configs

  role    = "host"
  node    = each.key
  config  = each.value
  package = var.package
  files   = local.ca_file == null ? {} : { (local.ca_file) = local.directory.ca }
  secrets = var.hosts[each.key].private_key == null ? {} : { (local.key_file) = var.hosts[each.key].private_key }
  enroll  = local.directory == null ? null : { url = local.directory.url, ca = local.ca_file, token = var.hosts[each.key].enroll_token }
}

resource "aws_security_group" "host" {
  name                   = "portway-${var.name}-host"
  description            = "Portway ${var.name}: function hosts"
  vpc_id                 = var.vpc_id
  revoke_rules_on_delete = true
  tags                   = merge(var.tags, { Name = "portway-${var.name}-host" })
}

locals {
  # By address: a HaVip may be no address of any member of a group.
  gateways = var.havip_cidrs != null ? var.havip_cidrs : distinct(flatten([for tenant in values(local.tenants) : [for shard in tenant.shards : "${shard.gateway}/32"]]))
  protocol = local.tunnel == "gre" ? "47" : "udp"
  ports    = distinct(flatten([for tenant in values(local.tenants) : [for shard in tenant.shards : compact([shard.port, shard.next])]]))
  open = merge([
    for cidr, ports in var.egress : { for port in ports : "tcp ${port} to ${cidr}" => { cidr = cidr, port = port } }
  ]...)
  directory_port = local.directory == null ? null : try(tonumber(regex(":([0-9]+)/?$", local.directory.url)[0]), 443)
}

# A gateway that took over calls its hosts: what comes from it is the first of all.
resource "aws_vpc_security_group_ingress_rule" "tunnel" {
  for_each = toset(local.gateways)

  security_group_id = aws_security_group.host.id
  description       = "tunnels from ${each.key}"
  ip_protocol       = local.protocol
  from_port         = local.tunnel == "gre" ? null : 1
  to_port           = local.tunnel == "gre" ? null : 65535
  cidr_ipv4         = each.key
  tags              = var.tags
}

resource "aws_vpc_security_group_egress_rule" "tunnel" {
  for_each = toset(local.gateways)

  security_group_id = aws_security_group.host.id
  description       = "tunnels to ${each.key}"
  ip_protocol       = local.protocol
  from_port         = local.tunnel == "gre" ? null : min(local.ports...)
  to_port           = local.tunnel == "gre" ? null : max(local.ports...)
  cidr_ipv4         = each.key
  tags              = var.tags
}

resource "aws_vpc_security_group_egress_rule" "open" {
  for_each = merge(local.open, local.directory == null ? {} : { for port in [local.directory_port] : "directory" => { cidr = "0.0.0.0/0", port = port } if !contains(values(local.open)[*].port, port) })

  security_group_id = aws_security_group.host.id
  description       = each.key
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = each.value.cidr
  tags              = var.tags
}

# Path MTU discovery (RFC 1191): type 3, code 4.
resource "aws_vpc_security_group_ingress_rule" "fragmentation" {
  for_each = toset(local.gateways)

  security_group_id = aws_security_group.host.id
  description       = "fragmentation needed from ${each.key}"
  ip_protocol       = "icmp"
  from_port         = 3
  to_port           = 4
  cidr_ipv4         = each.key
  tags              = var.tags
}

locals {
  statements = { for sid, statement in {
    # Functions of strangers run here: whatever else the role may, who has got its credentials gets no other role's.
    NoOtherRole = {
      Effect   = "Deny"
      Action   = ["iam:*", "sts:AssumeRole"]
      Resource = ["*"]
    }
    ReadParameters = length([for arn in local.secret_arns : arn if strcontains(arn, ":ssm:")]) == 0 ? null : {
      Action   = ["ssm:GetParameter"]
      Resource = [for arn in local.secret_arns : arn if strcontains(arn, ":ssm:")]
    }
    ReadSecrets = length([for arn in local.secret_arns : arn if strcontains(arn, ":secretsmanager:")]) == 0 ? null : {
      Action   = ["secretsmanager:GetSecretValue"]
      Resource = [for arn in local.secret_arns : arn if strcontains(arn, ":secretsmanager:")]
    }
    Decrypt = length(var.kms_keys) == 0 ? null : {
      Action   = ["kms:Decrypt"]
      Resource = var.kms_keys
      Condition = { StringEquals = { "kms:ViaService" = [
        "ssm.${local.region}.${data.aws_partition.this.dns_suffix}", "secretsmanager.${local.region}.${data.aws_partition.this.dns_suffix}",
      ] } }
    }
    FetchPackage = try(var.package.s3, null) == null ? null : {
      Action   = ["s3:GetObject"]
      Resource = ["arn:${data.aws_partition.this.partition}:s3:::${var.package.s3.bucket}/${var.package.s3.key}"]
    }
  } : sid => statement if statement != null }
}

resource "aws_iam_role" "host" {
  name        = "portway-${var.name}-host-${local.region}"
  description = "Function hosts of Portway, ${var.name}"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "ec2.${data.aws_partition.this.dns_suffix}" }, Action = "sts:AssumeRole" }]
  })
  tags = var.tags
}

resource "aws_iam_role_policy" "host" {
  name   = "portway"
  role   = aws_iam_role.host.id
  policy = jsonencode({ Version = "2012-10-17", Statement = [for sid, statement in local.statements : merge({ Sid = sid, Effect = "Allow" }, statement)] })
}

resource "aws_iam_role_policy_attachment" "host" {
  for_each = toset(var.policies)

  role       = aws_iam_role.host.name
  policy_arn = each.value
}

resource "aws_iam_instance_profile" "host" {
  name = "portway-${var.name}-host-${local.region}"
  role = aws_iam_role.host.name
  tags = var.tags
}
