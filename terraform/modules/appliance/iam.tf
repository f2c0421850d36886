# What gateways may do at AWS's API, statement by statement in docs/aws.md.

locals {
  trust = {
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ec2.${data.aws_partition.this.dns_suffix}" }
      Action    = "sts:AssumeRole"
    }]
  }

  # Fixed nodes by their interfaces' ARNs; of a group's, of which the primary ones come with the instances, whatever bears the appliance's tag.
  own_interfaces = local.autoscaled ? ["${local.ec2}:network-interface/*"] : concat(values(aws_network_interface.platform)[*].arn, values(aws_network_interface.tenant)[*].arn)
  of_appliance   = { StringEquals = { "ec2:ResourceTag/portway:appliance" = var.name } }
  if_grouped     = local.autoscaled ? { Condition = local.of_appliance } : null

  route_tables = distinct(concat(var.platform.route_tables, flatten([for tenant in values(var.tenants) : tenant.route_tables])))
  allocations  = flatten([for public in values(local.public) : values(public)])

  # A statement where there is something to allow.
  statements = { for sid, statement in {
    Look = {
      Action    = ["ec2:DescribeAddresses", "ec2:DescribeNetworkInterfaces", "ec2:DescribeRouteTables", "ec2:DescribeSecurityGroups"]
      Resource  = ["*"]
      Condition = { StringEquals = { "ec2:Region" = local.region } }
    }
    MoveAddresses = merge({
      Action   = ["ec2:AssignPrivateIpAddresses"]
      Resource = local.own_interfaces
    }, local.if_grouped)
    MoveRoutes = length(local.route_tables) == 0 ? null : {
      Action   = ["ec2:CreateRoute", "ec2:ReplaceRoute"]
      Resource = [for id in local.route_tables : "${local.ec2}:route-table/${id}"]
    }
    MovePublicAddresses = length(local.allocations) == 0 ? null : {
      Action   = ["ec2:AssociateAddress"]
      Resource = [for id in local.allocations : "${local.ec2}:elastic-ip/${id}"]
    }
    MovePublicAddressesToInterfaces = length(local.allocations) == 0 ? null : merge({
      Action   = ["ec2:AssociateAddress"]
      Resource = local.own_interfaces
    }, local.if_grouped)
    TakeInterfaces = !local.autoscaled ? null : {
      Action    = ["ec2:AttachNetworkInterface", "ec2:DetachNetworkInterface"]
      Resource  = ["${local.ec2}:network-interface/*"]
      Condition = { StringEquals = merge(local.of_appliance.StringEquals, { "ec2:ResourceTag/portway:side" = "tenant" }) }
    }
    TakeInterfacesToInstances = !local.autoscaled ? null : {
      Action    = ["ec2:AttachNetworkInterface", "ec2:DetachNetworkInterface"]
      Resource  = ["${local.ec2}:instance/*"]
      Condition = local.of_appliance
    }
    ForwardForOthers = !local.autoscaled ? null : {
      Action    = ["ec2:ModifyNetworkInterfaceAttribute"]
      Resource  = ["${local.ec2}:network-interface/*"]
      Condition = { StringEquals = merge(local.of_appliance.StringEquals, { "ec2:Attribute/SourceDestCheck" = "false" }) }
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

  policy = {
    Version   = "2012-10-17"
    Statement = [for sid, statement in local.statements : merge({ Sid = sid, Effect = "Allow" }, statement)]
  }
}

resource "aws_iam_role" "gateway" {
  name                 = "portway-${var.name}-${local.region}"
  description          = "Gateways of the Portway appliance ${var.name}"
  assume_role_policy   = jsonencode(local.trust)
  permissions_boundary = var.permissions_boundary
  tags                 = local.tags
}

resource "aws_iam_role_policy" "gateway" {
  name   = "portway"
  role   = aws_iam_role.gateway.id
  policy = jsonencode(local.policy)
}

resource "aws_iam_role_policy_attachment" "gateway" {
  for_each = toset(var.policies)

  role       = aws_iam_role.gateway.name
  policy_arn = each.value
}

resource "aws_iam_instance_profile" "gateway" {
  name = "portway-${var.name}-${local.region}"
  role = aws_iam_role.gateway.name
  tags = local.tags
}
