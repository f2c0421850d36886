# What cloud-init is given.

variables {
  role    = "gateway"
  config  = "gateway: { node: \"@node@\" }"
  secrets = { "/etc/portway/ha.key" = "arn:aws:ssm:eu-central-1:123456789012:parameter/ha" }
  interfaces = {
    tenant1   = { macs = ["0a:00:00:00:00:01", "0a:00:00:00:00:02"], wait = false }
    platform1 = { macs = ["0a:00:00:00:00:03"], routes = { "10.9.64.0/18" = "10.9.0.1" } }
  }
}

run "all_that_a_machine_needs" {
  command = plan

  assert {
    condition = [for file in yamldecode(output.cloud_config).write_files : "${file.permissions} ${file.path}"] == [
      "0600 /etc/portway/boot.json",
      "0755 /usr/local/sbin/portway-configure",
      "0644 /etc/systemd/networkd.conf.d/portway.conf",
      "0644 /etc/systemd/network/05-portway-platform1.link",
      "0644 /etc/systemd/network/05-portway-platform1.network",
      "0644 /etc/systemd/network/05-portway-tenant1.link",
      "0644 /etc/systemd/network/05-portway-tenant1.network",
    ] && yamldecode(output.cloud_config).runcmd == [["/usr/local/sbin/portway-configure"]]
    error_message = output.cloud_config
  }

  assert {
    condition     = jsondecode(yamldecode(output.cloud_config).write_files[0].content).config == var.config && yamldecode(output.cloud_config).write_files[1].content == file("files/portway-configure")
    error_message = "What is written is not what was given."
  }

  assert {
    condition     = yamldecode(output.cloud_config).write_files[5].content == "[Match]\nMACAddress=0a:00:00:00:00:01 0a:00:00:00:00:02\n\n[Link]\nName=tenant1\n"
    error_message = yamldecode(output.cloud_config).write_files[5].content
  }

  assert {
    condition     = strcontains(yamldecode(output.cloud_config).write_files[4].content, "[Route]\nDestination=10.9.64.0/18\nGateway=10.9.0.1\n") && !strcontains(yamldecode(output.cloud_config).write_files[6].content, "[Route]")
    error_message = yamldecode(output.cloud_config).write_files[4].content
  }
}

run "more_than_EC2_takes" {
  command = plan

  variables {
    config = join("", [for number in range(1000) : sha256(tostring(number))])
  }

  expect_failures = [output.user_data_base64]
}
