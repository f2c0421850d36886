# `autoscaling`: a group whose size Portway's autoscaler says.

resource "aws_launch_template" "node" {
  count = local.autoscaled ? 1 : 0

  name                   = "portway-${var.name}"
  description            = "Gateways of the Portway appliance ${var.name}"
  image_id               = local.image
  instance_type          = data.aws_ec2_instance_type.this.instance_type
  key_name               = var.instance.key_name
  user_data              = module.boot["@node@"].user_data_base64
  update_default_version = true
  tags                   = local.tags

  iam_instance_profile {
    arn = aws_iam_instance_profile.gateway.arn
  }

  network_interfaces {
    device_index          = 0
    delete_on_termination = true
    security_groups       = [aws_security_group.platform.id]
  }

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_type           = "gp3"
      volume_size           = var.instance.volume
      encrypted             = true
      delete_on_termination = true
    }
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  dynamic "tag_specifications" {
    for_each = toset(["instance", "volume", "network-interface"])
    content {
      resource_type = tag_specifications.value
      tags          = merge(local.tags, { Name = var.name })
    }
  }
}

resource "aws_autoscaling_group" "nodes" {
  count = local.autoscaled ? 1 : 0

  name                = "portway-${var.name}"
  min_size            = var.autoscaling.min_size
  max_size            = var.autoscaling.max_size
  vpc_zone_identifier = [for label in sort(local.labels) : var.platform.subnets[label].id]
  health_check_type   = "EC2"
  # What Portway's autoscaler says is said at once.
  default_cooldown          = 0
  default_instance_warmup   = 0
  wait_for_capacity_timeout = "0"
  # A node that goes has drained, or has had its time.
  termination_policies = ["OldestLaunchTemplate", "OldestInstance"]

  launch_template {
    id      = aws_launch_template.node[0].id
    version = aws_launch_template.node[0].latest_version
  }

  initial_lifecycle_hook {
    name                 = local.hook
    lifecycle_transition = "autoscaling:EC2_INSTANCE_TERMINATING"
    heartbeat_timeout    = var.autoscaling.drain_timeout
    default_result       = "CONTINUE"
  }

  dynamic "tag" {
    for_each = merge(local.tags, { Name = var.name })
    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = false
    }
  }

  lifecycle {
    ignore_changes = [desired_capacity]
  }

  depends_on = [aws_iam_role_policy.gateway, aws_vpc_security_group_egress_rule.own, aws_network_interface.pool]
}

locals {
  hook = "portway-drain"

  # What the autoscaler may do, wherever it runs (docs/autoscaling.md).
  autoscaler_policy = !local.autoscaled ? null : {
    Version = "2012-10-17"
    Statement = [
      { Sid = "Look", Effect = "Allow", Action = ["autoscaling:DescribeAutoScalingGroups"], Resource = ["*"] },
      {
        Sid      = "SizeAndLetGo"
        Effect   = "Allow"
        Action   = ["autoscaling:SetDesiredCapacity", "autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"]
        Resource = ["arn:${data.aws_partition.this.partition}:autoscaling:${local.region}:${data.aws_caller_identity.this.account_id}:autoScalingGroup:*:autoScalingGroupName/portway-${var.name}"]
      },
    ]
  }
  autoscaler_yaml = !local.autoscaled ? null : yamlencode({
    autoscaler = {
      gateways = { directory = { for key, value in { url = var.directory.url, token_file = "/etc/portway/autoscaler.token", ca = local.ca_file } : key => value if value != null } }
      nodes    = { min = var.autoscaling.min_size, max = var.autoscaling.max_size }
      actuator = { aws = { group = "portway-${var.name}", region = local.region, hook = local.hook } }
    }
  })
}
