namespace Sessions.Api;

/// <summary>Files that hold conversations: readable by nobody else, from the first moment.</summary>
internal static class PrivateFile
{
    /// <summary>Creates a file that must not exist.</summary>
    public static FileStream Create(string path)
    {
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }

        return new FileStream(path, options);
    }
}
