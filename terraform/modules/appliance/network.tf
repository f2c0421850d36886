# Interfaces of both sides, and what leads to HaVips. Addresses that gateways move are theirs: Terraform looks at none of them.

# Another address is another interface, and another machine.
resource "terraform_data" "address" {
  for_each = merge(
    { for name, node in var.nodes : name => node.platform },
    { for id, end in local.tenant_ends : id => end.address },
  )

  input = each.value
}

resource "aws_network_interface" "platform" {
  for_each = var.nodes

  description       = "Portway ${var.name}: ${each.key}, platform side"
  subnet_id         = var.platform.subnets[each.value.subnet].id
  private_ips       = each.value.platform == null ? null : [each.value.platform]
  security_groups   = [aws_security_group.platform.id]
  source_dest_check = false
  tags              = merge(local.tags, { Name = "${var.name}-${each.key}-platform", "portway:side" = "platform", "portway:node" = each.key })

  lifecycle {
    ignore_changes       = [private_ips, private_ips_count, private_ip_list]
    replace_triggered_by = [terraform_data.address[each.key]]
  }
}

locals {
  platform_addresses = { for name, node in var.nodes : name => node.platform == null ? aws_network_interface.platform[name].private_ip : node.platform }
  tenant_addresses   = { for id, end in local.tenant_ends : id => end.address == null ? aws_network_interface.tenant[id].private_ip : end.address }

  # At fixed nodes: one of each tenant.
  tenant_ends = merge([
    for node, about in var.nodes : {
      for tenant in keys(var.tenants) : "${node}/${tenant}" => { node = node, tenant = tenant, subnet = about.subnet, address = lookup(about.tenants, tenant, null) }
    }
  ]...)
  # Of a group: in each zone so many of each tenant that no instance lacks one.
  pool = local.autoscaled ? {
    for end in setproduct(keys(var.platform.subnets), keys(var.tenants), range(var.autoscaling.max_size + var.autoscaling.spare_interfaces)) :
    "${end[0]}/${end[1]}/${end[2]}" => { subnet = end[0], tenant = end[1], number = end[2] }
  } : {}
}

resource "aws_network_interface" "tenant" {
  for_each = local.tenant_ends

  description       = "Portway ${var.name}: ${each.value.node}, tenant ${each.value.tenant}"
  subnet_id         = var.tenants[each.value.tenant].subnets[each.value.subnet].id
  private_ips       = each.value.address == null ? null : [each.value.address]
  security_groups   = [aws_security_group.tenant[each.value.tenant].id]
  source_dest_check = false
  tags = merge(local.tags, {
    Name = "${var.name}-${each.value.node}-${each.value.tenant}", "portway:side" = "tenant", "portway:node" = each.value.node, "portway:tenant" = each.value.tenant
  })

  lifecycle {
    ignore_changes       = [private_ips, private_ips_count, private_ip_list]
    replace_triggered_by = [terraform_data.address[each.key]]
  }
}

resource "aws_network_interface" "pool" {
  for_each = local.pool

  description       = "Portway ${var.name}: for a node of the group, tenant ${each.value.tenant}"
  subnet_id         = var.tenants[each.value.tenant].subnets[each.value.subnet].id
  security_groups   = [aws_security_group.tenant[each.value.tenant].id]
  source_dest_check = false
  tags = merge(local.tags, {
    Name = "${var.name}-${each.value.subnet}-${each.value.number}-${each.value.tenant}", "portway:side" = "tenant", "portway:tenant" = each.value.tenant
  })

  lifecycle {
    ignore_changes = [private_ips, private_ips_count, private_ip_list, attachment]
  }
}

# Nobody who asks for any address gets one of these.
resource "aws_ec2_subnet_cidr_reservation" "platform" {
  for_each = { for id, shard in local.shards : id => shard if var.reserve_havips && shard.platform_in != null }

  subnet_id        = var.platform.subnets[each.value.platform_in].id
  cidr_block       = "${each.value.platform}/32"
  reservation_type = "explicit"
  description      = "Portway ${var.name}: platform HaVip of ${each.key}"
}

resource "aws_ec2_subnet_cidr_reservation" "tenant" {
  for_each = { for id, shard in local.shards : id => shard if var.reserve_havips && shard.tenant_in != null }

  subnet_id        = var.tenants[each.value.of].subnets[each.value.tenant_in].id
  cidr_block       = "${each.value.tenant}/32"
  reservation_type = "explicit"
  description      = "Portway ${var.name}: tenant HaVip of ${each.key}"
}

locals {
  first_node = try(sort(keys(var.nodes))[0], null)
  # Where routes lead before the gateways have moved them: only interfaces of the table's own VPC will do.
  tenant_start = {
    for name in keys(var.tenants) : name => local.autoscaled ? aws_network_interface.pool["${local.labels[0]}/${name}/0"].id : aws_network_interface.tenant["${local.first_node}/${name}"].id
  }
  platform_routes = local.autoscaled ? {} : merge([
    for id, shard in local.shards : {
      for index, table in var.platform.route_tables : "${id} ${index}" => { table = table, address = shard.platform } if shard.platform_in == null
    }
  ]...)
  tenant_routes = merge([
    for id, shard in local.shards : {
      for index, table in var.tenants[shard.of].route_tables : "${id} ${index}" => { table = table, address = shard.tenant, tenant = shard.of } if shard.tenant_in == null
    }
  ]...)
}

resource "aws_route" "platform" {
  for_each = local.platform_routes

  route_table_id         = each.value.table
  destination_cidr_block = "${each.value.address}/32"
  network_interface_id   = aws_network_interface.platform[local.first_node].id

  lifecycle {
    ignore_changes = [network_interface_id]
  }
}

resource "aws_route" "tenant" {
  for_each = local.tenant_routes

  route_table_id         = each.value.table
  destination_cidr_block = "${each.value.address}/32"
  network_interface_id   = local.tenant_start[each.value.tenant]

  lifecycle {
    ignore_changes = [network_interface_id]
  }
}

resource "aws_eip" "public" {
  for_each = { for id, shard in local.shards : id => shard if shard.public == "new" }

  domain = "vpc"
  tags   = merge(local.tags, { Name = "${var.name}-${each.key}", "portway:tenant" = each.value.of, "portway:shard" = tostring(each.value.shard) })
}
