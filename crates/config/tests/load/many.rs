//! Many tenants in one file.

use policy::TenantIx;
use testbed::folder::{Folder, NODE};

use crate::Load as _;

/// The node file with its tenants in one file.
fn many(folder: &Folder, name: &str, text: &str) {
    folder.write("gatepost.toml", &NODE.replace("\"tenants\"", &format!("{name:?}")));
    folder.write(name, text);
}

#[test]
fn many_tenants_stand_in_one_file_of_blocks_or_of_lines() {
    let folder = Folder::new(NODE, &[]);
    let (names, count) = ("abcdefghij", 200);
    let name = |index: usize| format!("{}-{index}", &names[index % 10..=index % 10]);
    let blocks = |index: usize| {
        format!(
            "[[tenant]]\nname = {:?}\nnetworks = [\"198.51.{index}.0/24\"]\nsenders = [\"@t{index}.example\"]\n\
             [[tenant.relay_domain]]\ndomains = [\"t{index}.example\"]\nnext_hops = [\"mail.example\"]\n\
             [tenant.limits]\nrecipients_per_message = {index}\n\n",
            name(index)
        )
    };
    let lines = |index: usize| {
        format!(
            "{{\"name\": {:?}, \"networks\": [\"198.51.{index}.0/24\"], \"senders\": [\"@t{index}.example\"], \
             \"relay_domain\": [{{\"domains\": [\"t{index}.example\"], \"next_hops\": [\"mail.example\"]}}], \
             \"limits\": {{\"recipients_per_message\": {index}}}}}\n",
            name(index)
        )
    };
    let blocks = "# All of them.\n".to_owned() + &(0..count).map(blocks).collect::<String>();
    for (file, text) in
        [("tenants.toml", blocks), ("tenants.jsonl", (0..count).map(lines).collect::<String>())]
    {
        many(&folder, file, &text);
        let snapshot = folder.load().unwrap_or_else(|errors| panic!("{file}: {errors}")).snapshot;
        assert_eq!(snapshot.tenants().len(), count);
        for index in 0..count {
            let tenant = snapshot.tenant_named(&name(index)).unwrap();
            assert_eq!(tenant, TenantIx(index as u32), "{file}: the order of the file");
            let ip = format!("198.51.{index}.7").parse().unwrap();
            assert_eq!(snapshot.network_tenant(ip), Some(tenant));
            assert_eq!(snapshot.tenant(tenant).limits.recipients_max, Some(index as u32));
            let route = snapshot.route(tenant, &format!("t{index}.example")).unwrap();
            assert_eq!(&*snapshot.next_hops(route).key, "mail.example:25");
        }
    }
}

#[test]
fn errors_in_one_file_of_many_tenants_name_line_and_key() {
    let folder = Folder::new(NODE, &[]);
    let good = "[[tenant]]\nname = \"a\"\nsenders = [\"@a.example\"]\n";
    let text = format!(
        "name = \"top\"\n{good}\n[[tenant]]\nname = \"b\"\nnetworx = []\n[[tenant.identity]]\npassword = 7\n\
         [[tenant]]\nname = \"c\nsenders = []\n{good}"
    );
    many(&folder, "tenants.toml", &text);
    let places: Vec<_> = folder.errors().into_iter().map(|(place, _)| place).collect();
    for place in [
        "tenants.toml:1 name",
        "tenants.toml:8 tenant.networx",
        "tenants.toml:9 identity.login",
        "tenants.toml:10 identity.password",
        "tenants.toml:12 ",
    ] {
        assert!(places.iter().any(|found| found == place), "{place} is not in {places:?}");
    }
    let good = "{\"name\": \"a\", \"senders\": [\"@a.example\"]}\n";
    many(&folder, "tenants.jsonl", &format!("{good}\n{{\"name\": \"b\", \"networx\": []}}\n{{\"name\": \n"));
    let places: Vec<_> = folder.errors().into_iter().map(|(place, _)| place).collect();
    for place in ["tenants.jsonl:3 networx", "tenants.jsonl:4 "] {
        assert!(places.iter().any(|found| found == place), "{place} is not in {places:?}");
    }
}
