
note "gathered in $folder:"
ls "$folder" >&2
note "next: planewire analyze CAPTURE --cluster $folder"
