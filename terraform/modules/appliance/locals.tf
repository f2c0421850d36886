data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  region = data.aws_region.this.name
  # Of resources of EC2, without their kind: arn:aws:ec2:eu-central-1:123456789012
  ec2 = "arn:${data.aws_partition.this.partition}:ec2:${local.region}:${data.aws_caller_identity.this.account_id}"

  tags       = merge(var.tags, { "portway:appliance" = var.name })
  autoscaled = var.autoscaling != null
  labels     = local.autoscaled ? keys(var.platform.subnets) : distinct(sort(values(var.nodes)[*].subnet))

  platform_vpc = one(distinct(values(var.platform.subnets)[*].vpc_id))
  tenant_vpcs  = { for name, tenant in var.tenants : name => one(distinct(values(tenant.subnets)[*].vpc_id)) }

  # Interfaces as the operating system calls them. The primary one keeps the name that it has.
  tenant_interfaces  = { for name, tenant in var.tenants : name => var.placement == "tenant" ? "@primary_interface@" : "tenant${tenant.device}" }
  platform_interface = var.placement == "tenant" ? "platform1" : "@primary_interface@"

  # Each has 16 addresses for each host, one for each shard.
  inner_of_host = 16

  shards = merge([
    for name, tenant in var.tenants : {
      for shard in tenant.shards : "${name}/${shard.shard}" => merge(shard, {
        of   = name
        vrid = coalesce(shard.vrid, shard.shard + 1)
        port = try(coalesce(shard.wireguard.port, 51820 + shard.shard), 51820 + shard.shard)
        next = try(coalesce(shard.wireguard.next.port, 51819 - shard.shard), null)
        # The label of the subnet in which a HaVip lies, if any.
        platform_in = one([
          for label, subnet in var.platform.subnets : label if cidrhost("${shard.platform}/${split("/", subnet.cidr_block)[1]}", 0) == cidrhost(subnet.cidr_block, 0)
        ])
        tenant_in = one([
          for label, subnet in tenant.subnets : label if cidrhost("${shard.tenant}/${split("/", subnet.cidr_block)[1]}", 0) == cidrhost(subnet.cidr_block, 0)
        ])
      })
    }
  ]...)

  private_keys = {
    for id, shard in local.shards : id => "/etc/portway/${shard.of}-${shard.shard}.key" if shard.wireguard != null
  }
  next_keys = {
    for id, shard in local.shards : id => "/etc/portway/${shard.of}-${shard.shard}.next.key" if try(shard.wireguard.next, null) != null
  }
  ha_keys = [for key in var.ha.keys : { id = key.id, file = "/etc/portway/ha-${key.id}.key" }]

  secrets = merge(
    { for index, key in local.ha_keys : key.file => var.ha.keys[index].secret },
    { for id, file in local.private_keys : file => local.shards[id].wireguard.private_key },
    { for id, file in local.next_keys : file => local.shards[id].wireguard.next.private_key },
  )
  token_file = "/etc/portway/directory.token"
  ca_file    = try(var.directory.ca, null) == null ? null : "/etc/portway/directory-ca.pem"
  # All that any node reads.
  secret_arns = distinct(concat(
    values(local.secrets),
    try(values(var.directory.tokens), []),
    compact([try(var.directory.operator_token, null)]),
  ))

  has_admin = length(var.admin.cidrs) + length(var.admin.security_groups) > 0
}
