data "aws_ssm_parameter" "image" {
  count = var.instance.image == null ? 1 : 0

  name = "/aws/service/debian/release/12/latest/${var.instance.architecture}"
}

data "aws_ec2_instance_type" "this" {
  instance_type = var.instance.type

  lifecycle {
    postcondition {
      condition     = length(var.tenants) + 1 <= self.maximum_network_interfaces
      error_message = "A ${var.instance.type} takes ${self.maximum_network_interfaces} network interfaces, and ${length(var.tenants)} tenants and the platform are ${length(var.tenants) + 1}: take a larger instance.type, or divide the tenants among appliances."
    }
    postcondition {
      condition     = length([for shard in values(local.shards) : shard if shard.platform_in != null]) + 1 <= self.maximum_ipv4_addresses_per_interface
      error_message = "A ${var.instance.type} takes ${self.maximum_ipv4_addresses_per_interface} addresses at an interface, and a node's own with the HaVips of all shards, which may all be one node's, are more: take a larger instance.type, HaVips that lie in no subnet, or fewer shards."
    }
  }
}

locals {
  image = nonsensitive(try(data.aws_ssm_parameter.image[0].value, var.instance.image))
  # Of each tenant the interfaces that a node may get, by their MAC addresses.
  macs = {
    for name in keys(var.tenants) : name => [for id, end in local.pool : aws_network_interface.pool[id].mac_address if end.tenant == name]
  }
  # What is behind the platform's interface, where the default route is the tenant's.
  platform_networks = distinct(concat(var.platform.function_host_cidrs, values(var.platform.subnets)[*].cidr_block, var.admin.cidrs))
  join = !local.autoscaled ? null : {
    url            = var.directory.url
    ca             = local.ca_file
    shards         = keys(local.shards)
    operator_token = var.directory.operator_token
    token_file     = local.token_file
  }
  files = local.ca_file == null ? {} : { (local.ca_file) = var.directory.ca }
}

module "boot" {
  source   = "../boot"
  for_each = local.gateway_yaml

  role    = "gateway"
  node    = local.autoscaled ? null : each.key
  config  = each.value
  package = var.package
  files   = local.files
  join    = local.join
  secrets = merge(local.secrets, try({ (local.token_file) = var.directory.tokens[each.key] }, {}))
  words = !local.autoscaled ? {} : {
    for label, subnet in var.platform.subnets : subnet.availability_zone => {
      for name, tenant in var.tenants : "router.tenant${tenant.device}" => local.routers[label][name]
    }
  }
  source_dest_check = !local.autoscaled
  interfaces = merge(
    { for name, macs in local.macs : local.tenant_interfaces[name] => { macs = macs, wait = false } if local.autoscaled },
    { for name in keys(var.tenants) : local.tenant_interfaces[name] => { macs = [aws_network_interface.tenant["${each.key}/${name}"].mac_address] } if !local.autoscaled && var.placement == "platform" },
    { for name in [local.platform_interface] : name => {
      macs   = [aws_network_interface.platform[each.key].mac_address]
      routes = { for to in local.platform_networks : to => cidrhost(var.platform.subnets[var.nodes[each.key].subnet].cidr_block, 1) if to != var.platform.subnets[var.nodes[each.key].subnet].cidr_block }
    } if var.placement == "tenant" },
  )
}

# Nodes that share addresses die apart.
resource "aws_placement_group" "nodes" {
  count = local.autoscaled ? 0 : 1

  name         = "portway-${var.name}"
  strategy     = "spread"
  spread_level = "rack"
  tags         = local.tags
}

resource "aws_instance" "node" {
  for_each = var.nodes

  ami                  = local.image
  instance_type        = data.aws_ec2_instance_type.this.instance_type
  iam_instance_profile = aws_iam_instance_profile.gateway.name
  key_name             = var.instance.key_name
  placement_group      = aws_placement_group.nodes[0].name
  user_data_base64     = module.boot[each.key].user_data_base64
  tags                 = merge(local.tags, { Name = "${var.name}-${each.key}", "portway:node" = each.key })
  volume_tags          = merge(local.tags, { Name = "${var.name}-${each.key}" })

  network_interface {
    device_index         = 0
    network_interface_id = var.placement == "platform" ? aws_network_interface.platform[each.key].id : one([for id, end in local.tenant_ends : aws_network_interface.tenant[id].id if end.node == each.key])
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = var.instance.volume
    encrypted   = true
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  # What a node is made of is for its first boot: Terraform would stop both nodes at once to change it. docs/aws.md, Changes.
  lifecycle {
    ignore_changes = [ami, user_data, user_data_base64]
  }

  depends_on = [aws_iam_role_policy.gateway, aws_vpc_security_group_egress_rule.own]
}

# The other side's interfaces, which may be in another VPC, of the same zone and account.
resource "aws_network_interface_attachment" "tenant" {
  for_each = var.placement == "platform" ? local.tenant_ends : {}

  instance_id          = aws_instance.node[each.value.node].id
  network_interface_id = aws_network_interface.tenant[each.key].id
  device_index         = var.tenants[each.value.tenant].device
}

resource "aws_network_interface_attachment" "platform" {
  for_each = var.placement == "tenant" ? var.nodes : {}

  instance_id          = aws_instance.node[each.key].id
  network_interface_id = aws_network_interface.platform[each.key].id
  device_index         = 1
}
