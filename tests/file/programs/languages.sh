# What languages do with files of their own: R, JavaScript, Java, Perl, Ruby, PHP; those that are here.
command -v Rscript >/dev/null && Rscript -e 'x<-list(a=1:10,b=letters); saveRDS(x,"x.rds"); y<-readRDS("x.rds"); stopifnot(identical(x,y)); write.csv(mtcars,"m.csv"); m<-read.csv("m.csv",row.names=1); print(dim(m)); save(x,file="x.rda"); load("x.rda"); dput(file.info("m.csv")$size); con<-gzfile("g.gz","w"); writeLines(letters,con); close(con); print(length(readLines("g.gz"))); dir.create("rd"); file.copy("m.csv","rd"); print(list.files(".",recursive=TRUE)); unlink("rd",recursive=TRUE); f<-file("rw","w+b"); writeBin(1:10,f); seek(f,0,rw="r"); print(readBin(f,"integer",10)); close(f); sink("sunk"); print(1); sink(); pdf("p.pdf"); plot(1); invisible(dev.off()); print(file.exists("p.pdf")); unlink("p.pdf"); print(file.rename("sunk","s2")); Sys.chmod("s2","600"); print(format(file.mode("s2"))); zz<-tempfile(tmpdir="."); cat("a\n",file=zz); cat("b\n",file=zz,append=TRUE); print(readLines(zz)); unlink(zz); download.file(paste0("file://",getwd(),"/m.csv"),"dl",quiet=TRUE); print(file.size("dl"))'
cat > n.js <<'J'
const fs=require('fs'),p=require('path');
fs.writeFileSync('n1','hello');fs.appendFileSync('n1',' world');console.log(fs.readFileSync('n1','utf8'));
fs.mkdirSync('nd/a/b',{recursive:true});fs.writeFileSync('nd/a/b/c','x');console.log(fs.readdirSync('nd',{recursive:true}).sort());
fs.copyFileSync('n1','n2');fs.renameSync('n2','n3');fs.symlinkSync('n3','nl');console.log(fs.readlinkSync('nl'),fs.realpathSync('nl')===p.resolve('n3'),fs.statSync('nl').size,fs.lstatSync('nl').isSymbolicLink());
const fd=fs.openSync('n3','r+');fs.writeSync(fd,'J',0);fs.fsyncSync(fd);const b=Buffer.alloc(5);fs.readSync(fd,b,0,5,0);console.log(b.toString());fs.ftruncateSync(fd,3);console.log(fs.fstatSync(fd).size);fs.closeSync(fd);
try{fs.readFileSync('nope')}catch(e){console.log(e.code)};try{fs.rmdirSync('nd')}catch(e){console.log(e.code)};
fs.utimesSync('n3',1e9,1e9);console.log(fs.statSync('n3').mtimeMs);fs.chmodSync('n3',0o600);console.log((fs.statSync('n3').mode&0o777).toString(8));
(async()=>{const q=fs.promises;await Promise.all([...Array(30).keys()].map(i=>q.writeFile('nd/f'+i,'v'+i)));console.log((await q.readdir('nd')).length,await q.readFile('nd/f7','utf8'));
const w=fs.createWriteStream('ns');for(let i=0;i<2000;i++)w.write('line '+i+'\n');w.end();await new Promise(r=>w.on('finish',r));let n=0;for await(const c of fs.createReadStream('ns'))n+=c.length;console.log(n,(await q.stat('ns')).size);
await q.cp('nd','nd2',{recursive:true});console.log((await q.readdir('nd2')).length);await q.rm('nd',{recursive:true});const t=await q.mkdtemp('./tmp-');await q.rmdir(t);const h=await q.open('n1','a');await h.appendFile('!');await h.close();console.log(await q.readFile('n1','utf8'));
const d=await q.opendir('nd2');let k=0;for await(const e of d)k+=e.isFile();console.log(k);await q.access('n1',fs.constants.R_OK);
const z=require('zlib');await require('stream/promises').pipeline(fs.createReadStream('ns'),z.createGzip(),fs.createWriteStream('ns.gz'));console.log(z.gunzipSync(fs.readFileSync('ns.gz')).length);
console.log(require('child_process').execSync('cat n1; ls nd2|wc -l').toString())})();
J
command -v node >/dev/null && node n.js
mkdir jv; cat > jv/J.java <<'J'
import java.io.*;import java.nio.*;import java.nio.channels.*;import java.nio.file.*;import java.nio.file.attribute.*;import java.util.*;
public class J{public static void main(String[] a)throws Exception{Path p=Path.of("j1");Files.writeString(p,"hello\n");Files.writeString(p,"more\n",StandardOpenOption.APPEND);System.out.print(Files.readString(p));
try(RandomAccessFile r=new RandomAccessFile("j2","rw")){r.setLength(8192);MappedByteBuffer m=r.getChannel().map(FileChannel.MapMode.READ_WRITE,0,8192);m.put(5000,(byte)65);m.force();r.seek(5000);System.out.println(r.read());r.getChannel().write(ByteBuffer.wrap("zz".getBytes()),10);try(FileLock l=r.getChannel().lock()){System.out.println(l.isValid());}}
Files.createDirectories(Path.of("jd/x/y"));Files.copy(p,Path.of("jd/x/c"));Files.move(Path.of("jd/x/c"),Path.of("jd/d"),StandardCopyOption.ATOMIC_MOVE);Files.createSymbolicLink(Path.of("jl"),p);System.out.println(Files.readSymbolicLink(Path.of("jl")));
try(var s=Files.walk(Path.of("jd"))){s.sorted().forEach(System.out::println);}
Files.setLastModifiedTime(p,FileTime.fromMillis(1000000000123L));System.out.println(Files.getLastModifiedTime(p));Files.setPosixFilePermissions(p,PosixFilePermissions.fromString("rw-r-----"));System.out.println(PosixFilePermissions.toString(Files.getPosixFilePermissions(p)));
try{Files.delete(Path.of("jd"));}catch(DirectoryNotEmptyException e){System.out.println("notempty");}
try(FileChannel s=FileChannel.open(p),e=FileChannel.open(Path.of("j3"),StandardOpenOption.CREATE,StandardOpenOption.WRITE)){System.out.println(s.transferTo(0,s.size(),e));}
try(BufferedWriter w=Files.newBufferedWriter(Path.of("j4"))){for(int i=0;i<5000;i++)w.write("l"+i+"\n");}System.out.println(Files.lines(Path.of("j4")).count());System.out.println(new File("j4").length()+" "+new File(".").list().length+" "+new File("j4").getCanonicalFile().getName());
Path t=Files.createTempFile(Path.of("."),"t",".x");Files.delete(t);System.out.println(Files.isSameFile(p,Path.of("jl")));File f=new File("j4");System.out.println(f.renameTo(new File("j5"))+" "+f.exists()+" "+new File("j5").delete());
Process q=new ProcessBuilder("sh","-c","wc -c < j1; pwd | sed 's,.*/,,'").directory(new File("jd")).redirectErrorStream(true).start();System.out.print(new String(q.getInputStream().readAllBytes()));
}}
J
command -v javac >/dev/null && javac -d jv jv/J.java; java -cp jv J; (cd jv; jar -cf ../j.jar J.class; jar -tf ../j.jar); rm j.jar jv/*.class
perl -e 'use File::Find; use File::Copy; use Fcntl ":flock"; open F,">","pl1"; print F "x\n" x 100; close F; copy("pl1","pl2"); move("pl2","pl3"); find({wanted=>sub{print "$File::Find::name\n" if /^pl/},preprocess=>sub{sort @_}},"."); open F,"+<","pl3"; flock(F,LOCK_EX) or die; seek F,10,0; print F "Y"; truncate F,50; close F; print -s "pl3","\n"; opendir D,"."; print join(" ",sort grep /^pl/, readdir D),"\n"; utime 5,6,"pl3"; print((stat "pl3")[9],"\n"); ' 2>/dev/null
command -v ruby >/dev/null && ruby -rfileutils -rtempfile -e 'File.write("rb1","a\n"*10); FileUtils.cp("rb1","rb2"); FileUtils.mkdir_p("rbd/x"); FileUtils.mv("rb2","rbd/x"); puts Dir["rbd/**/*"].sort; File.open("rb1","r+"){|f| f.flock(File::LOCK_EX); f.seek(3); f.write "Q"; f.flush; f.truncate(8)}; puts IO.readlines("rb1").inspect; Tempfile.create("t","."){|t| t.write "x"; t.flush; puts File.size(t.path)}; puts File.realpath("rbd/../rb1").end_with?("/rb1"); FileUtils.rm_r "rbd"'
command -v php >/dev/null && php -r 'file_put_contents("ph1","x\n"); file_put_contents("ph1","y\n",FILE_APPEND|LOCK_EX); echo file_get_contents("ph1"); $f=fopen("ph1","c+"); flock($f,LOCK_EX); ftruncate($f,1); fseek($f,0,SEEK_END); fwrite($f,"z"); fflush($f); rewind($f); echo fread($f,10),"\n"; fclose($f); mkdir("phd"); copy("ph1","phd/a"); print_r(glob("phd/*")); print_r(scandir("phd")); rename("phd/a","ph2"); rmdir("phd"); touch("ph2",12345); echo filemtime("ph2"),"\n"; $t=tempnam(".","t"); echo strlen(basename($t)),"\n"; unlink($t);' 2>/dev/null
rm -f g.gz x.rds x.rda j.jar ns.gz
